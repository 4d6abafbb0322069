"""When a round will end, and how many steps fit into that."""

import math

import msgspec
import pytest

from pleb_coordinator.core.fitting import (
    InHand,
    RoundsAhead,
    due_by,
    fitting_steps,
    is_late,
    round_ahead,
    seconds_left,
    usual_seconds,
    whole_unit,
)

NOW = 1000.0


def computing(steps=100, seconds_per_step=1.0, since=50.0, host=1):
    return InHand(host, host, steps, NOW - since, seconds_per_step)


def ahead(*in_hand, needed, **more):
    return round_ahead(in_hand, NOW, needed=needed, local_steps=100, **more)


def test_all_who_compute_are_to_end_together():
    # one more unit is needed beyond the two in hand, of which 50 steps each are left
    left = seconds_left(ahead(computing(), computing(host=2), needed=3), 1.0, NOW)
    assert left == pytest.approx((100 + 50 + 50) / 3)


def test_a_host_alone_has_time_for_all_that_is_needed():
    assert seconds_left(ahead(needed=3), 2.0, NOW) == 600.0


def test_a_round_whose_last_units_are_in_hand_ends_with_the_last_one_that_it_needs():
    slow = computing(seconds_per_step=4.0, since=0.0)
    fast = computing(seconds_per_step=0.5, since=20.0, host=2)
    assert seconds_left(ahead(slow, fast, needed=2), 1.0, NOW) == 400.0
    assert seconds_left(ahead(slow, fast, needed=1), 10.0, NOW) < 100.0
    assert seconds_left(ahead(slow, fast, needed=0), 1.0, NOW) == 0.0


def test_a_young_round_is_as_fast_as_the_last_one():
    assert seconds_left(ahead(needed=8, before=10.0), 1.0, NOW) == 80.0
    assert seconds_left(ahead(needed=8), 1.0, NOW) == 800.0


def test_of_very_many_units_a_sample_says_when_the_round_ends():
    speeds = [0.5 + number % 7 for number in range(70)]
    all_hosts = [
        computing(seconds_per_step=speed, since=float(number), host=number)
        for number, speed in enumerate(speeds)
    ]
    for needed in (40, 90, 400):
        exact = seconds_left(ahead(*all_hosts, needed=needed), 1.0, NOW)
        sample = ahead(*all_hosts[::5], needed=needed, every=5)
        assert seconds_left(sample, 1.0, NOW) == pytest.approx(exact, rel=0.1)


def test_what_was_seen_a_moment_ago_says_the_same_as_what_is_seen_now():
    hosts = [
        computing(seconds_per_step=1 + number % 3, since=float(number), host=number)
        for number in range(50)
    ]
    for needed in (20, 50, 90):
        seen = ahead(*hosts, needed=needed)
        now = round_ahead(hosts, NOW + 2.0, needed=needed, local_steps=100)
        assert seconds_left(seen, 1.0, NOW + 2.0) == pytest.approx(seconds_left(now, 1.0, NOW + 2))


def test_units_that_one_host_computes_can_be_doubled_those_that_end_last_first():
    hosts = [computing(host=1), computing(seconds_per_step=9.0, host=2), computing(host=3)]
    again = msgspec.structs.replace(hosts[2], host=4)
    assert [found.host for found in ahead(*hosts, again, needed=1).in_one_hand] == [2, 1]


ROUND = (7, (0, 3))


def known_round(units, every=1):
    known = RoundsAhead()
    seen = ahead(*(computing(host=number) for number in range(units)), needed=units, every=every)
    known.keep(*ROUND, 5, seen)
    return known


def test_a_small_round_is_looked_at_after_each_change():
    known = known_round(20)
    assert known.find(*ROUND, 5, NOW) is not None
    assert known.find(*ROUND, 6, NOW) is None, "a unit was verified"
    known.note_given(8)
    assert known.find(*ROUND, 5, NOW) is not None, "that was another project's"
    known.note_given(7)
    assert known.find(*ROUND, 5, NOW) is None


@pytest.mark.parametrize("every", [1, 10])
def test_a_large_round_is_looked_at_when_a_part_of_it_has_changed(every):
    known = known_round(640, every)
    for _ in range(20 * every):
        assert known.find(*ROUND, 5, NOW) is not None
        known.note_given(7)
    known.note_given(7)
    assert known.find(*ROUND, 5, NOW) is None


def test_a_round_is_looked_at_again_after_a_while_or_when_the_clock_is_set_back():
    known = known_round(640)  # of units of 100 s
    assert known.find(*ROUND, 5, NOW + 0.9) is not None
    assert known.find(*ROUND, 5, NOW + 1.1) is None
    assert known.find(*ROUND, 5, NOW - 1) is None
    assert known_round(0).find(*ROUND, 5, NOW) is None, "nobody computes anything yet"


def test_another_version_is_another_round():
    assert known_round(640).find(7, (0, 4), 5, NOW) is None
    assert known_round(640).find(7, (1, 3), 5, NOW) is None


def test_late_units_are_not_counted_on():
    away = computing(since=300.0)
    assert is_late(away, NOW)
    assert not is_late(computing(since=250.0), NOW)
    assert seconds_left(ahead(away, needed=1), 1.0, NOW) == 100.0


@pytest.mark.parametrize(
    ("seconds", "shortest", "steps"),
    [
        (1000.0, 0.25, 160),
        (320.0, 0.25, 160),
        (300.0, 0.25, 150),
        (219.0, 0.25, 100),
        (81.0, 0.25, 40),
        (79.0, 0.25, None),
        (159.0, 0.5, None),
        (0.0, 0.25, None),
    ],
)
def test_steps_fit_into_the_time_or_none_do(seconds, shortest, steps):
    assert fitting_steps(seconds, 2.0, 160, shortest) == steps


def test_the_shortest_unit_is_given_where_no_multiple_of_a_part_fits():
    assert fitting_steps(17.5, 1.0, 64, 0.26) == 17


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.0, 100), (400.0, 100), (500.0, 80), (1000.0, 40), (9000.0, 25)]
)
def test_a_round_that_would_be_long_is_made_of_shorter_units(seconds, steps):
    due = ahead(needed=3, due_by=NOW + 400.0)
    assert whole_unit(due, seconds, 0.25, NOW) == steps
    assert whole_unit(ahead(needed=3), seconds, 0.25, NOW) == 100, "nobody knows what is usual"


def test_a_round_is_due_before_it_is_unusually_long():
    assert usual_seconds([100.0] * 4) == math.inf
    assert usual_seconds([100.0, 200.0, 300.0, 100.0, 900.0]) == 200.0
    assert due_by(200.0, NOW) == pytest.approx(NOW + 280.0)
    assert due_by(math.inf, NOW) == math.inf


def test_no_unit_is_longer_than_the_cap_or_shorter_than_the_shortest():
    assert fitting_steps(1000.0, 1.0, 64, 0.25, cap=40) == 40
    assert fitting_steps(20.0, 1.0, 64, 0.25, cap=40) == 20
    assert fitting_steps(1000.0, 1.0, 64, 0.25, cap=10) == 16
