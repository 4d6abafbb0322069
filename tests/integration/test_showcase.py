"""A project's showcase at the coordinator: stored, compared, shown, and no way into the page."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pleb_coordinator.core.records import Kept, Showing
from pleb_shared.errors import Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.report import EvaluationResult
from pleb_shared.protocol.showcase import (
    Card,
    CardExample,
    NumbersInput,
    PictureInput,
    Showcase,
    Shown,
    ShownClasses,
    ShownNumbers,
    ShownText,
    TextInput,
)
from pleb_shared.protocol.unit import UnitKind
from tests.integration.http_world import HttpWorld, http_world
from tests.integration.steps_world import BUFFERS, graph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

EVIL = "</blockquote><script>alert(1)</script>"
PICTURE = PictureInput(height=4, width=5, channels=1, pixels=bytes(range(20)))


def card_of(**changes: Any) -> Card:
    return Card(graph=digest_of(graph(BUFFERS)), **changes)


EXAMPLES = card_of(
    classes=["cat", EVIL],
    examples=[
        CardExample(inputs=[PICTURE], truth=[1.0]),
        CardExample(inputs=[TextInput(text=EVIL), NumbersInput(values=[0.5], more=3)]),
    ],
)
PROMPT = card_of(prompt=f"Once {EVIL}", tokens=len(EVIL))


def showcase_of(http: HttpWorld, card: Card, **changes: Any) -> Showcase:
    """Put the card and the graph where the coordinator has them."""
    data, code = strict_json.encode(card), graph(BUFFERS)
    for blob in (data, code):
        http.world.deps.blobs.put(blob)
    values: dict[str, Any] = {
        "kind": "classes",
        "graph": blob_of(code),
        "card": blob_of(data),
        "width": 2,
        "examples": [0, 7],
    }
    if card.prompt:
        values |= {"kind": "text", "width": 256, "examples": [], "tokens": card.tokens}
        values |= {"prompt": list(card.prompt.encode())}
    return Showcase(**values | changes)


def publish(http: HttpWorld, showcase: Showcase, number: int = 2) -> None:
    metadata = msgspec.structs.replace(http.world.metadata, number=number, showcase=showcase)
    http.world.publish(metadata, invite=False)
    http.world.metadata = metadata


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[HttpWorld]:
    async with http_world(tmp_path, holdout=True, units=2, quorum=2) as http:
        yield http


def evaluated(http: HttpWorld, shown: Shown, versions: int = 1) -> None:
    """Make versions with a trusted host, which gives that answer for each."""
    trusted = http.world.volunteer("trusted", role=Role.TRUSTED)
    done = 0
    while done < versions:
        for manifest in http.world.ask(trusted)[0]:
            result = None
            if manifest.unit.kind is UnitKind.EVALUATE:
                result = EvaluationResult(metrics={"loss": 1.0}, examples=8, showcase=shown)
                done += 1
            http.world.answer(trusted, manifest, result)
        http.world.run()


def seen(showcase: Showcase, first: int = 1) -> ShownClasses:
    row = [(first, 0.75), (1 - first, 0.25)]
    return ShownClasses(card=showcase.card.digest, rows=[row, row])


def add(http: HttpWorld, version: int, shown: Shown) -> None:
    with http.world.store.write() as tx:
        tx.projects.add_showing(Showing(1, 0, version, shown.card, shown, http.world.clock.now))


def test_a_version_says_what_it_sees_beside_the_first_one(tmp_path):
    async def story():
        async with world(tmp_path) as http:
            nothing = (await http.client.get("/projects/tiny/showcase")).json()
            assert nothing["card"] is None
            assert "showcase-title" not in (await http.client.get("/projects/tiny")).text
            showcase = showcase_of(http, EXAMPLES)
            publish(http, showcase)
            assert "once it has evaluated" in (await http.client.get("/projects/tiny")).text
            evaluated(http, seen(showcase), versions=3)
            found = (await http.client.get("/projects/tiny/showcase")).json()
            assert found["versions"] == [0, 1, 2]
            assert found["before"]["version"] == 0
            assert found["newest"]["version"] == 2
            assert found["newest"]["shown"]["rows"][0] == [[1, 0.75], [0, 0.25]]
            page = (await http.client.get("/projects/tiny")).text
            assert "Of 1 example that" in page
            assert "Version 0" in page
            assert "Version 2" in page
            later = (await http.client.get("/projects/tiny?from=1")).text
            assert 'hx-get="/projects/tiny/shown?from=1"' in later
            fragment = (await http.client.get("/projects/tiny/shown?from=1")).text
            assert "Version 1" in fragment
            assert "Version 0" not in fragment

    asyncio.run(story())


@pytest.mark.parametrize(
    ("asked", "beside"),
    [
        ("", 2),
        ("0", 2),
        ("2", 2),
        ("4", 3),
        ("9", 6),
        ("1e3", 2),
        ("-1", 2),
        ("9" * 30, 2),
        (EVIL, 2),
        ("\u0665", 2),
    ],
)
def test_any_version_can_stand_beside_the_newest(tmp_path, asked, beside):
    async def story():
        async with world(tmp_path) as http:
            showcase = showcase_of(http, EXAMPLES)
            publish(http, showcase)
            for version in (2, 3, 6, 8):
                add(http, version, seen(showcase))
            params = {"from": asked}
            found = (await http.client.get("/projects/tiny/showcase", params=params)).json()
            assert (found["before"]["version"], found["newest"]["version"]) == (beside, 8)
            page = (await http.client.get("/projects/tiny", params=params)).text
            assert "<script>alert" not in page

    asyncio.run(story())


def test_what_a_model_says_is_text_whatever_it_says(tmp_path):
    async def story():
        async with world(tmp_path) as http:
            for number, card in enumerate((EXAMPLES, PROMPT), start=2):
                showcase = showcase_of(http, card)
                publish(http, showcase, number)
                said = ShownText(card=showcase.card.digest, tokens=list(EVIL.encode()))
                answer: Shown = said if card.prompt else seen(showcase)
                add(http, 1, answer)
                add(http, 2, answer)
                page = (await http.client.get("/projects/tiny")).text
                assert "<script>alert" not in page
                assert "&lt;script&gt;alert(1)" in page
                assert page.count("<blockquote>") == page.count("</blockquote>")

    asyncio.run(story())


def test_bytes_that_are_no_text_are_spelled_out(tmp_path):
    async def story():
        async with world(tmp_path) as http:
            showcase = showcase_of(http, card_of(prompt="Once", tokens=4))
            publish(http, showcase)
            add(http, 1, ShownText(card=showcase.card.digest, tokens=[0x1B, 0xFF, 0x0A, 0x41]))
            page = (await http.client.get("/projects/tiny")).text
            assert "\\x1b\N{REPLACEMENT CHARACTER}\nA</blockquote>" in page
            assert "\x1b" not in page

    asyncio.run(story())


def test_numbers_are_shown_beside_what_is_true(tmp_path):
    async def story():
        async with world(tmp_path) as http:
            row = CardExample(inputs=[NumbersInput(values=[1.5, -2.0], more=8)], truth=[151.0])
            showcase = showcase_of(http, card_of(examples=[row] * 2), kind="numbers", width=1)
            publish(http, showcase)
            for version, value in ((0, 12.5), (4, 149.9)):
                add(http, version, ShownNumbers(card=showcase.card.digest, rows=[[value]] * 2))
            page = (await http.client.get("/projects/tiny")).text
            for words in ("1.5, -2 and 8 more", "151", "12.5", "150"):
                assert words in page

    asyncio.run(story())


def test_a_wrong_answer_costs_no_metrics_and_is_left_out(tmp_path):
    async def story():
        async with world(tmp_path) as http:
            showcase = showcase_of(http, EXAMPLES)
            publish(http, showcase)
            good = seen(showcase)
            wrong: list[Shown] = [
                msgspec.structs.replace(good, rows=good.rows[:1]),
                msgspec.structs.replace(good, card="0" * 64),
                ShownText(card=good.card, tokens=[1]),
            ]
            for number, shown in enumerate(wrong, start=1):
                evaluated(http, shown)
                with http.world.store.read() as tx:
                    assert len(tx.projects.evaluations(1, 0)) >= number
                found = (await http.client.get("/projects/tiny/showcase")).json()
                assert found["versions"] == []
            assert (await http.client.get("/projects/tiny")).status_code == 200

    asyncio.run(story())


def test_another_question_starts_anew(tmp_path):
    async def story():
        async with world(tmp_path) as http:
            first = showcase_of(http, EXAMPLES)
            publish(http, first)
            evaluated(http, seen(first), versions=2)
            other = showcase_of(http, msgspec.structs.replace(EXAMPLES, classes=[]))
            publish(http, other, number=3)
            found = (await http.client.get("/projects/tiny/showcase")).json()
            assert (found["versions"], found["newest"]) == ([], None)
            evaluated(http, seen(other))
            found = (await http.client.get("/projects/tiny/showcase")).json()
            assert len(found["versions"]) == 1
            assert found["before"] is None
            publish(http, first, number=4)
            found = (await http.client.get("/projects/tiny/showcase")).json()
            assert found["versions"] == [0, 1], "the old answers are still there"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"examples": [0, 8]}, "names example 8"),
        ({"examples": [0]}, "has 2 examples on its card, not 1"),
        ({"width": 3}, "names 2 classes, not 3"),
        ({"graph": "card"}, "graph cannot be used"),
        ({"card": "graph"}, "not a valid Card"),
    ],
)
def test_a_showcase_that_no_host_could_make_is_refused_to_the_researcher(
    tmp_path, changes, sentence
):
    async def story():
        async with world(tmp_path) as http:
            showcase = showcase_of(http, EXAMPLES)
            values = {
                k: getattr(showcase, v) if k in {"graph", "card"} else v for k, v in changes.items()
            }
            wrong = msgspec.structs.replace(showcase, **values)
            with pytest.raises(Refusal, match=sentence):
                publish(http, wrong)

    asyncio.run(story())


def test_the_first_and_the_newest_answers_outlive_the_others(tmp_path):
    async def story():
        async with world(tmp_path) as http:
            showcase = showcase_of(http, EXAMPLES)
            publish(http, showcase)
            evaluated(http, seen(showcase), versions=2)
            with http.world.store.write() as tx:
                row = tx.versions.get(1, 0, 1)
                tx.projects.thin_showings(1, 0, before=9, step=4)
                assert tx.projects.shown_versions(1, 0, showcase.card.digest) == [0, 1]
                for number in range(2, 12):
                    kept = Kept.LISTED if number < 9 else Kept.EXACT
                    tx.versions.add(msgspec.structs.replace(row, number=number, kept=kept))
            for version in range(3, 12):
                add(http, version, seen(showcase))
            other = msgspec.structs.replace(seen(showcase), card="e" * 64)
            add(http, 3, other)
            with http.world.store.write() as tx:
                tx.projects.thin_showings(1, 0, before=9, step=4)
                left = tx.projects.shown_versions(1, 0, showcase.card.digest)
                assert left == [0, 1, 4, 8, 9, 10, 11]
                assert tx.projects.shown_versions(1, 0, other.card) == [3]

    asyncio.run(story())
