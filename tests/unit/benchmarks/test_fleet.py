"""PCs that come and go, and BOINC's way of giving out units to them."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.fleet import fleets
from benchmarks.fleet_boinc import BoincFleet
from pleb_coordinator.simulation.presence import (
    HABITS_OF_THE_WORLD,
    Habits,
    Presence,
    Weibull,
    Window,
)
from pleb_coordinator.simulation.throughput import round_ratio

MONDAY = 1_800_000_000 // 86_400 * 86_400.0 + 3 * 86_400
HOUR = 3600.0
DAYS = Window(9.0, 17.0, (0.0, 0.0))


def presence(habits, seed=1):
    return Presence(habits, np.random.default_rng(seed), MONDAY)


def test_pc_without_habits_is_always_on():
    found = presence(None)
    assert found.is_on(MONDAY)
    assert found.off_at(MONDAY) == float("inf")
    assert found.finished(MONDAY, 50.0) == MONDAY + 50
    assert found.on_between(MONDAY, MONDAY + 70) == 70


@pytest.mark.parametrize("habits", [habits for _, habits in HABITS_OF_THE_WORLD])
def test_work_pauses_while_the_pc_is_off(habits):
    found = presence(habits)
    for hours in (0.0, 5.0, 50.0, 300.0):
        begin = found.on_from(MONDAY + hours * HOUR)
        assert found.is_on(begin)
        assert not found.is_on(found.off_at(begin))
        end = found.finished(begin, 6 * HOUR)
        assert found.on_between(begin, end) == pytest.approx(6 * HOUR)


def test_window_is_kept_on_weekdays_and_closed_at_weekends():
    found = presence(Habits(Weibull(1.0, 1e6), Weibull(1.0, 1e-3), DAYS))
    assert found.on_from(MONDAY) == MONDAY + 9 * HOUR
    assert found.off_at(MONDAY + 10 * HOUR) == MONDAY + 17 * HOUR
    assert found.on_between(MONDAY, MONDAY + 7 * 86_400) == pytest.approx(40 * HOUR, rel=1e-3)


def test_lengths_follow_their_distribution():
    found = presence(Habits(Weibull(1.0, 2.0), Weibull(1.0, 1.0)))
    share = found.on_between(MONDAY, MONDAY + 5000 * HOUR) / (5000 * HOUR)
    assert share == pytest.approx(2 / 3, abs=0.04)


def test_slowest_tenth_is_compared_with_the_median_round():
    assert round_ratio([1.0] * 18 + [3.0, 4.0]) == 3.5


def test_boinc_waits_for_the_slowest_host_of_a_round():
    settings, from_hours = fleets(quick=True)["eight"]
    found = BoincFleet(replace(settings, hours=24), from_hours).run()
    assert found["rounds"] > 10
    assert 0.5 < found["share_of_summed_speed"] < 0.95
    assert found["slowest_tenth_round_ratio"] >= 1
