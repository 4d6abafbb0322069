"""The showcase in a real browser: light, dark, on a phone, live, and whatever a model says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pleb_coordinator.core.records import Showing
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
from tests.integration.served import Served, served
from tests.integration.steps_world import BUFFERS, graph
from tests.system.chromium import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.chromium import Browser

pytestmark = pytest.mark.system

EVIL = "</blockquote><script>document.title = 'taken'</script><img src=x onerror=alert(1)>"
LONG = "a-class-whose-name-never-ends-" * 2
GRAPH = graph(BUFFERS)
COLOURS = ("light", "dark")
WIDTHS = (390, 1200)


def picture(seed: int) -> PictureInput:
    pixels = bytes((seed * 37 + place * 11) % 256 for place in range(12 * 12 * 3))
    return PictureInput(height=12, width=12, channels=3, pixels=pixels)


PICTURES = Card(
    graph=digest_of(GRAPH),
    classes=["cat", "dog", LONG, EVIL[:60]],
    examples=[CardExample(inputs=[picture(n)], truth=[float(n % 4)]) for n in range(6)],
)
ROWS = Card(
    graph=digest_of(GRAPH),
    examples=[
        CardExample(inputs=[TextInput(text=EVIL)], truth=[1.5]),
        CardExample(inputs=[NumbersInput(values=[0.25, -3.0], more=4)], truth=[-2.0]),
    ],
)
PROMPT = Card(graph=digest_of(GRAPH), prompt="Once upon a time", tokens=len(EVIL))
ORDERS = ([0, 1, 2, 3], [3, 2, 1, 0])
CHANCES = (0.7, 0.2, 0.06, 0.04)


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, holdout=True) as found:
        yield found


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as found:
        yield found


def publish(coordinator: Served, card: Card, number: int) -> Showcase:
    world = coordinator.world
    data = strict_json.encode(card)
    for blob in (data, GRAPH):
        world.deps.blobs.put(blob)
    names: dict[str, Any] = {"graph": blob_of(GRAPH), "card": blob_of(data)}
    if card.prompt:
        prompt = list(card.prompt.encode())
        found = Showcase(kind="text", width=256, prompt=prompt, tokens=card.tokens, **names)
    elif card.classes:
        found = Showcase(kind="classes", width=4, examples=list(range(6)), **names)
    else:
        found = Showcase(kind="numbers", width=1, examples=[0, 1], **names)
    metadata = msgspec.structs.replace(world.metadata, number=number, showcase=found)
    world.publish(metadata, invite=False)
    return found


def answer(showcase: Showcase, version: int) -> Shown:
    card = showcase.card.digest
    if showcase.kind == "text":
        return ShownText(card=card, tokens=list(EVIL.encode()))
    if showcase.kind == "numbers":
        return ShownNumbers(card=card, rows=[[1.25 * version], [-3e20]])
    row = list(zip(ORDERS[version % 2], CHANCES, strict=True))
    return ShownClasses(card=card, rows=[row] * 6)


def say(coordinator: Served, showcase: Showcase, version: int) -> None:
    world = coordinator.world
    with world.store.write() as tx:
        shown = answer(showcase, version)
        tx.projects.add_showing(Showing(1, 0, version, shown.card, shown, world.clock.now))


def seen(browser: Browser, url: str, colours: str, width: int) -> None:
    driver = browser.driver
    metrics = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = [{"name": "prefers-color-scheme", "value": colours}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    driver.get(url)


def test_each_kind_in_light_and_dark_on_a_phone_and_a_screen(
    coordinator: Served, browser: Browser, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{coordinator.port}/projects/tiny"
    for number, card in enumerate((PICTURES, ROWS, PROMPT), start=2):
        showcase = publish(coordinator, card, number)
        for version in (1, 4, 7):
            say(coordinator, showcase, version)
        for colours in COLOURS:
            for width in WIDTHS:
                seen(browser, url, colours, width)
                text = browser.text("showcase")
                for words in ("ersion 1", "ersion 7", "Made by a trusted host"):
                    assert words in text, (showcase.kind, text)
                assert browser.axe() == [], (showcase.kind, colours, width)
                assert browser.overhang() <= 0, (showcase.kind, width)
                assert browser.driver.title.startswith("Tiny")
                name = f"showcase-{showcase.kind}-{colours}-{width}.png"
                browser.driver.save_screenshot(str(tmp_path / name))
        assert "<script>document.title" in browser.text_content("showcase"), "it is text"
        assert browser.complaints() == []


def test_a_reader_chooses_the_version_to_compare_with(
    coordinator: Served, browser: Browser
) -> None:
    showcase = publish(coordinator, PICTURES, 2)
    say(coordinator, showcase, 1)
    browser.driver.get(f"http://127.0.0.1:{coordinator.port}/projects/tiny")
    assert "Compare with" not in browser.text("showcase")
    for version in (4, 6, 7):
        say(coordinator, showcase, version)
    browser.driver.refresh()
    browser.driver.find_element("link text", "4").click()
    browser.wait(lambda: "from=4#showcase" in browser.driver.current_url)
    assert "Version 4" in browser.text("showcase")
    assert "Version 1" not in browser.text("showcase")
    assert browser.text_of("#showcase [aria-current]") == "4"
    assert browser.complaints() == []


def is_told(coordinator: Served, browser: Browser, words: str) -> bool:
    """Whether the page says so; statuses are read again at a commit half a second later."""
    world = coordinator.world
    world.clock.now += 1
    with world.store.write() as tx:
        tx.events.add(1, world.clock.now, "looked")
    return words in browser.text("showcase")


def test_what_a_new_version_says_appears_by_itself(coordinator: Served, browser: Browser) -> None:
    world, showcase = coordinator.world, publish(coordinator, PICTURES, 2)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    browser.driver.get(f"http://127.0.0.1:{coordinator.port}/projects/tiny")
    browser.driver.execute_script("window.unreloaded = true")
    assert "once it has evaluated" in browser.text("showcase")
    for version in (0, 1):
        evaluations = 0
        while not evaluations:
            for manifest in world.ask(trusted)[0]:
                result = None
                if manifest.unit.kind is UnitKind.EVALUATE:
                    shown = answer(showcase, manifest.unit.version)
                    result = EvaluationResult(metrics={"loss": 1.0}, examples=8, showcase=shown)
                    evaluations += 1
                world.answer(trusted, manifest, result)
            world.run()
        browser.wait(partial(is_told, coordinator, browser, f"Version {version}"))
    assert "version 0 got" in browser.text("showcase")
    assert browser.driver.execute_script("return window.unreloaded") is True
    assert browser.complaints() == []
