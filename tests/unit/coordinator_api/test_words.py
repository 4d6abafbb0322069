"""Numbers and times as people read them."""

from __future__ import annotations

import pytest

from pleb_coordinator.web_app import words


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (0.0, "never"),
        (999.0, "just now"),
        (940.0, "1 minute ago"),
        (880.0, "2 minutes ago"),
        (1001.0, "just now"),
    ],
)
def test_ago(then, said):
    assert words.ago(then, 1000.0) == said


@pytest.mark.parametrize(
    ("flops", "said"), [(0, "0 FLOP"), (1500, "1.5 kFLOP"), (2.34e15, "2.34 PFLOP")]
)
def test_operations(flops, said):
    assert words.operations(flops) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (9_999, "9,999"), (435_000, "435 k"), (7_000_000, "7 M")]
)
def test_count(value, said):
    assert words.count(value) == said


def test_a_missing_number_is_a_dash():
    assert words.number(None) == "\N{EN DASH}"
    assert words.number(0.123456) == "0.1235"
