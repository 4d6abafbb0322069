"""The showcase's rules: what is asked, what is an answer to it, what it may cost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pleb_shared.errors import Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.report import EvaluationResult
from pleb_shared.protocol.showcase import (
    PictureInput,
    Showcase,
    ShownClasses,
    ShownNumbers,
    ShownText,
    affordable_flops,
    fault_of,
)
from pleb_shared.protocol.unit import Blob

CARD, OTHER = "c" * 64, "d" * 64


def asked(**changes: Any) -> Showcase:
    values: dict[str, Any] = {
        "kind": "classes",
        "graph": Blob(digest="a" * 64, size=10),
        "card": Blob(digest=CARD, size=10),
        "width": 3,
        "examples": [0, 4],
    }
    return Showcase(**values | changes)


CLASSES = asked()
NUMBERS = asked(kind="numbers", width=2)
TEXT = asked(kind="text", width=256, examples=[], prompt=[72, 105], tokens=3)
ROW = [(2, 0.5), (0, 0.3), (1, 0.2)]


@pytest.mark.parametrize(
    ("showcase", "shown"),
    [
        (CLASSES, ShownClasses(card=CARD, rows=[ROW, ROW])),
        (asked(width=1000), ShownClasses(card=CARD, rows=[[(i, 0.1) for i in range(5)]] * 2)),
        (NUMBERS, ShownNumbers(card=CARD, rows=[[1.0, -2.5], [0.0, 1e30]])),
        (TEXT, ShownText(card=CARD, tokens=[0, 255, 10])),
    ],
)
def test_an_answer_that_fits(showcase, shown):
    assert fault_of(showcase, shown) == ""
    result = EvaluationResult(metrics={"loss": 1.0}, examples=1, showcase=shown)
    assert strict_json.decode(strict_json.encode(result), EvaluationResult) == result


@pytest.mark.parametrize(
    ("showcase", "shown"),
    [
        (CLASSES, ShownClasses(card=OTHER, rows=[ROW, ROW])),
        (CLASSES, ShownClasses(card=CARD, rows=[ROW])),
        (CLASSES, ShownClasses(card=CARD, rows=[ROW] * 3)),
        (CLASSES, ShownClasses(card=CARD, rows=[ROW, ROW[:2]])),
        (CLASSES, ShownClasses(card=CARD, rows=[ROW, [(3, 0.5), (0, 0.3), (1, 0.2)]])),
        (CLASSES, ShownClasses(card=CARD, rows=[ROW, [(0, 0.5), (0, 0.3), (1, 0.2)]])),
        (CLASSES, ShownClasses(card=CARD, rows=[ROW, ROW[::-1]])),
        (CLASSES, ShownClasses(card=CARD, rows=[ROW, [(0, 1.0), (1, 1.0), (2, 1.0)]])),
        (CLASSES, ShownNumbers(card=CARD, rows=[[1.0], [2.0]])),
        (CLASSES, ShownText(card=CARD, tokens=[1, 2, 3])),
        (NUMBERS, ShownNumbers(card=CARD, rows=[[1.0, 2.0], [1.0]])),
        (NUMBERS, ShownClasses(card=CARD, rows=[ROW, ROW])),
        (TEXT, ShownText(card=CARD, tokens=[1, 2])),
        (TEXT, ShownText(card=CARD, tokens=[1, 2, 3, 4])),
        (TEXT, ShownNumbers(card=CARD, rows=[])),
    ],
)
def test_an_answer_to_something_else_is_told_from_it(showcase, shown):
    assert fault_of(showcase, shown) != ""


@pytest.mark.parametrize(
    "shown",
    [
        {"kind": "text", "card": CARD, "tokens": [256]},
        {"kind": "text", "card": CARD, "tokens": [-1]},
        {"kind": "text", "card": CARD, "tokens": [1.5]},
        {"kind": "text", "card": CARD, "tokens": ["<script>"]},
        {"kind": "text", "card": CARD, "tokens": [1] * (LIMITS.showcase_tokens + 1)},
        {"kind": "text", "card": "<b>", "tokens": [1]},
        {"kind": "classes", "card": CARD, "rows": [[[0, 1.1]]]},
        {"kind": "classes", "card": CARD, "rows": [[[0, -0.1]]]},
        {"kind": "classes", "card": CARD, "rows": [[["0", 0.1]]]},
        {"kind": "classes", "card": CARD, "rows": [[[0, 0.1]] * 6]},
        {"kind": "classes", "card": CARD, "rows": [[]]},
        {"kind": "classes", "card": CARD, "rows": [[[0, 0.1]]] * 17},
        {"kind": "numbers", "card": CARD, "rows": [[1e31]]},
        {"kind": "numbers", "card": CARD, "rows": [[0.0] * 17]},
        {"kind": "numbers", "card": CARD, "rows": [[None]]},
        {"kind": "page", "card": CARD, "rows": []},
        {"kind": "text", "card": CARD, "tokens": [1], "html": "<b>"},
        None,
    ],
)
def test_what_is_no_answer_at_all_is_malformed(shown):
    result = {"kind": "evaluation", "metrics": {"loss": 1.0}, "examples": 1, "showcase": shown}
    with pytest.raises(Refusal):
        strict_json.decode(msgspec.json.encode(result), EvaluationResult)


@pytest.mark.parametrize(
    "changes",
    [
        {"examples": []},
        {"prompt": [1]},
        {"tokens": 3},
        {"kind": "numbers", "width": 17},
        {"kind": "text", "width": 256},
        {"kind": "text", "width": 256, "examples": [], "prompt": [1]},
        {"kind": "text", "width": 255, "examples": [], "prompt": [1], "tokens": 1},
        {"examples": list(range(17))},
        {"width": 0},
    ],
)
def test_a_showcase_that_asks_for_nothing_or_too_much_is_refused(changes):
    plain = msgspec.to_builtins(CLASSES) | changes
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(plain, Showcase)


def test_without_a_showcase_a_report_is_what_it_always_was():
    result = EvaluationResult(metrics={"loss": 1.0}, examples=1)
    assert strict_json.encode(result) == (
        b'{"kind":"evaluation","metrics":{"loss":1.0},"examples":1}'
    )


def test_a_picture_has_the_bytes_that_its_size_says():
    PictureInput(height=2, width=3, channels=3, pixels=bytes(18))
    with pytest.raises(ValueError, match="number of bytes"):
        PictureInput(height=2, width=3, channels=1, pixels=bytes(18))


def test_a_tenth_of_an_evaluation_is_affordable_and_a_second_always():
    assert affordable_flops(0) == 2**33
    assert affordable_flops(2**40) == 2**40 // 10
