"""For how long a PC usually stays free, as its history shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.core.habits import HABIT_EVENTS, FreeTime, Habits, habits_of
from pleb_agent.core.history import EventKind

HOUR = 3600.0
DAY = 24 * HOUR
MONDAY, WEDNESDAY, SATURDAY = 0, 2, 5
NOW = 100 * DAY


def every_day(hours, days=range(1, 29), weekday=WEDNESDAY, begin=-1.0):
    """Free times on the days before `NOW`, from `begin` (hours from now) on, oldest first.

    `hours` gives the length on a weekday and on one of a weekend.
    """
    times = []
    for back in sorted(days, reverse=True):
        weekend = (weekday - back) % 7 >= SATURDAY
        start = NOW - back * DAY + begin * HOUR
        times.append(FreeTime(start, start + hours[weekend] * HOUR))
    return times


def test_a_pc_that_is_free_until_its_owner_comes_home_says_when():
    habits = Habits(every_day((3, 3)), since=NOW - HOUR)
    assert habits.usually_free_seconds(NOW, WEDNESDAY) == 2 * HOUR


def test_days_of_the_other_kind_do_not_count_for_the_time_of_day():
    long_weekends = Habits(every_day((1.5, 20)), since=NOW - HOUR)
    assert long_weekends.usually_free_seconds(NOW, WEDNESDAY) == 0.5 * HOUR
    on_saturday = Habits(every_day((1.5, 20), weekday=SATURDAY), since=NOW - HOUR)
    # 8 Saturdays and Sundays of 28 days: after an hour, most times end within another half
    assert on_saturday.usually_free_seconds(NOW, SATURDAY) == 0.5 * HOUR


def test_what_has_lasted_long_lasts_longer():
    lengths = [0.1] * 20 + [8.0] * 10
    times = [
        FreeTime(
            NOW - (60 - place) * 2 * HOUR * 5, NOW - (60 - place) * 2 * HOUR * 5 + hours * HOUR
        )
        for place, hours in enumerate(lengths)
    ]
    fresh = Habits(times, since=NOW).usually_free_seconds(NOW, MONDAY)
    lasting = Habits(times, since=NOW - HOUR).usually_free_seconds(NOW, MONDAY)
    assert fresh == pytest.approx(0.1 * HOUR)
    assert lasting == pytest.approx(7 * HOUR)


def test_little_experience_says_nothing():
    assert (
        Habits(every_day((3, 3), days=range(1, 6)), NOW).usually_free_seconds(NOW, MONDAY) is None
    )


def test_a_pc_in_use_says_nothing():
    assert Habits(every_day((3, 3))).usually_free_seconds(NOW, WEDNESDAY) is None


def test_free_times_are_read_from_the_history():
    run, pause, stop = EventKind.RUN, EventKind.PAUSE, EventKind.STOP
    start, end = EventKind.START, EventKind.END
    events = [
        (0, pause),
        (1, start),
        (2, run),
        (3, run),  # for another reason
        (5, pause),
        (6, stop),
        (8, run),
        (9, end),
        (10, start),
        (11, run),  # the PC lost its power: nobody knows when
        (20, start),
        (21, run),
        (25, stop),
        (24, run),  # the clock was set back
        (22, pause),
        (30, run),
    ]
    assert habits_of(events) == Habits([FreeTime(2, 5), FreeTime(8, 9), FreeTime(21, 25)], 30)
    assert habits_of([]) == Habits([], None)


@given(
    st.lists(st.tuples(st.floats(0, 50 * DAY), st.sampled_from(HABIT_EVENTS)), max_size=60),
    st.floats(0, 60 * DAY),
    st.integers(0, 6),
)
def test_no_history_breaks_it(events, now, weekday):
    habits = habits_of(events)
    assert all(time.begin < time.end for time in habits.times)
    assert list(habits.times) == sorted(habits.times)
    seconds = habits.usually_free_seconds(now, weekday)
    assert seconds is None or seconds > 0
