"""Hours as seven lines mean the same as the preference they came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.core.schedule import DAYS, parse_hours
from pleb_agent.web.week_hours import days_of, hours_of
from pleb_shared.errors import InputError


def lines(hours: str) -> dict[str, str]:
    return {day.name: day.text for day in days_of(hours)}


def test_always_is_all_of_each_day():
    assert set(lines("").values()) == {"00:00-24:00"}
    assert hours_of(lines("")) == ""


def test_a_night_belongs_to_the_day_on_which_it_begins():
    shown = lines("mon-fri 20:00-08:00; sat,sun 00:00-24:00")
    assert shown["mon"] == shown["thu"] == "20:00-08:00"
    assert shown["fri"] == "20:00-24:00"
    assert shown["sat"] == shown["sun"] == "00:00-24:00"


@pytest.mark.parametrize(
    ("day", "written"),
    [
        ("8-12", "wed 08:00-12:00"),
        ("8:30 \N{EN DASH} 12", "wed 08:30-12:00"),
        ("20-8", "wed 20:00-08:00"),
        ("8-9; 10-11", "wed 08:00-09:00,10:00-11:00"),
    ],
)
def test_short_forms_are_understood(day, written):
    assert parse_hours(hours_of({"wed": day})) == parse_hours(written)


def test_equal_days_are_written_together():
    assert hours_of(dict.fromkeys(DAYS[:5], "9-17")) == "mon-fri 9:00-17:00"


def test_a_week_without_hours_is_refused():
    with pytest.raises(InputError, match="at least one hour"):
        hours_of(dict.fromkeys(DAYS, " "))


@pytest.mark.parametrize("wrong", ["x", "8", "8-", "25-26", "8:70-9", "8-8", "8-9-10", "-"])
def test_invalid_hours_are_refused(wrong):
    with pytest.raises(InputError, match="20:00-08:00"):
        hours_of({"mon": wrong})


def test_bars_are_the_days_own_minutes():
    days = days_of("mon 20:00-08:00")
    assert days[0].bars == ((1200, 240),)
    assert days[1].bars == ((0, 480),)


spans = st.tuples(st.integers(0, 23), st.integers(0, 3), st.integers(0, 24), st.integers(0, 3))


@given(st.dictionaries(st.sampled_from(DAYS), st.lists(spans, min_size=1, max_size=3), min_size=1))
def test_the_form_round_trips(week):
    parts = []
    for day, found in week.items():
        texts = [
            f"{a:02}:{b * 15:02}-{c:02}:{0 if c == 24 else d * 15:02}"
            for a, b, c, d in found
            if (a, b) != (c, d)
        ]
        if texts:
            parts.append(f"{day} {','.join(texts)}")
    hours = "; ".join(parts)
    assert parse_hours(hours_of(lines(hours))) == parse_hours(hours)
