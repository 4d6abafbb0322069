"""Hours of the week: their notation, and when they change."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_agent.core.readings import LocalTime
from pleb_agent.core.schedule import (
    ALWAYS,
    DAY_MINUTES,
    DAYS,
    WEEK_MINUTES,
    Hours,
    parse_hours,
    seconds_to,
)

DAY = DAY_MINUTES
WEEK = WEEK_MINUTES


def at(minute: int) -> LocalTime:
    return LocalTime(minute % WEEK // DAY, minute % DAY)


@st.composite
def any_hours(draw):
    """Spans that are sorted and do not touch, as `Hours` promises."""
    edges = sorted(draw(st.sets(st.integers(0, WEEK), min_size=2, max_size=10)))
    edges = edges[: len(edges) // 2 * 2]
    return Hours(tuple(zip(edges[::2], edges[1::2], strict=True)))


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", ((0, WEEK),)),
        ("  ", ((0, WEEK),)),
        ("mon-sun 00:00-24:00", ((0, WEEK),)),
        ("mon 8:00-9:30", ((480, 570),)),
        ("MON 08:00-09:30 ; tue 00:00-00:01", ((480, 570), (DAY, DAY + 1))),
        ("08:00-09:00", tuple((day * DAY + 480, day * DAY + 540) for day in range(7))),
        ("22:00-06:00, 12:00-13:00", parse_hours("mon-sun 12:00-13:00,22:00-06:00").spans),
        ("mon 20:00-08:00", ((1200, DAY + 480),)),
        ("sun 20:00-08:00", ((0, 480), (6 * DAY + 1200, WEEK))),
        (
            "sat-mon 10:00-11:00",
            ((600, 660), (5 * DAY + 600, 5 * DAY + 660), (6 * DAY + 600, 6 * DAY + 660)),
        ),
        ("mon,wed 01:00-02:00, 02:00-03:00", ((60, 180), (2 * DAY + 60, 2 * DAY + 180))),
        ("mon 00:00-24:00; tue 00:00-01:00", ((0, DAY + 60),)),
    ],
)
def test_the_notation_is_understood(text, spans):
    assert parse_hours(text).spans == spans


@pytest.mark.parametrize(
    "text",
    [
        "always",
        "mon",
        "mon 8-9",
        "mon 08:00",
        "mon 24:00-01:00",
        "mon 08:60-09:00",
        "mon 08:00-24:01",
        "mon 08:00-08:00",
        "moon 08:00-09:00",
        "mon- 08:00-09:00x",
        "mon 08:00-09:00;",
        "8",
        "08:00-09:00 mon",
    ],
)
def test_what_is_not_understood_is_quoted_with_an_example(text):
    with pytest.raises(ValueError, match="not understood; an example is 'mon-fri 20:00-08:00"):
        parse_hours(text)


def written(start: int, end: int) -> str:
    """Return a span as one text for each day that it touches."""
    texts = []
    while start < end:
        stop = min(end, (start // DAY + 1) * DAY)
        first, last = divmod(start % DAY, 60), divmod((stop - 1) % DAY + 1, 60)
        clocks = f"{first[0]:02}:{first[1]:02}-{last[0]:02}:{last[1]:02}"
        texts.append(f"{DAYS[start // DAY]} {clocks}")
        start = stop
    return "; ".join(texts)


@given(any_hours())
@settings(max_examples=300)
def test_hours_written_day_by_day_are_read_as_they_are(hours):
    text = "; ".join(written(*span) for span in hours.spans)
    assert not text or parse_hours(text) == hours


@given(any_hours(), st.integers(0, WEEK - 1))
def test_the_change_is_where_the_answer_changes(hours, minute):
    answer = hours.allow(at(minute))
    ahead = next((n for n in range(1, WEEK) if hours.allow(at(minute + n)) is not answer), None)
    assert hours.minutes_to_change(at(minute)) == ahead


def test_always_never_changes():
    assert ALWAYS.minutes_to_change(at(0)) is None
    assert parse_hours("").allow(at(WEEK - 1))


@pytest.mark.parametrize(("now", "seconds"), [(600.0, 120.0), (659.5, 60.5)])
def test_seconds_end_with_a_full_minute(now, seconds):
    assert seconds_to(2, now) == seconds
