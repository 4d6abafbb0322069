"""Lengths of time as people write and read them."""

from __future__ import annotations

import pytest

from pleb_system.durations import parse_duration, shown_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("1 min", 60), ("1.5h", 5400), ("31d", 31 * 86_400), ("3", 180)],
)
def test_what_people_write(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1h", "1y", "soon", "32d", "1e9"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match=r"not a duration|31d at most"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (2e5, "2 days")],
)
def test_what_people_read(seconds, text):
    assert shown_duration(seconds) == text
