"""Estimates of energy, hours and bytes: by hand-made sums."""

from __future__ import annotations

import pytest

from pleb_agent.core.energy import (
    IDLE_SHARE,
    ON_SHARE,
    bytes_per_day,
    hours_per_day,
    kwh,
    kwh_per_day,
)
from pleb_agent.core.preferences import Preferences


@pytest.mark.parametrize(
    ("seconds", "threads", "watts", "percent", "energy"),
    [
        (3600, 1, 1000, 100, 1.0),
        (3600, 4, 8, 100, 0.032),
        (1800, 4, 8, 100, 0.016),
        (3600, 4, 8, 25, 0.008),
        (0, 4, 8, 100, 0.0),
    ],
)
def test_energy_is_power_times_time(seconds, threads, watts, percent, energy):
    assert kwh(seconds, threads, watts, percent) == pytest.approx(energy)


@pytest.mark.parametrize(
    ("preferences", "hours"),
    [
        (Preferences(while_in_use=True), 24 * ON_SHARE),
        (Preferences(), 24 * ON_SHARE * IDLE_SHARE),
        (Preferences(hours="mon-sun 20:00-08:00"), 12 * ON_SHARE * IDLE_SHARE),
        (Preferences(hours="sat 00:00-24:00"), 24 / 7 * ON_SHARE * IDLE_SHARE),
    ],
)
def test_hours_of_a_day_are_those_allowed_and_free(preferences, hours):
    assert hours_per_day(preferences) == pytest.approx(hours)


def test_a_day_takes_less_while_in_use():
    plain = Preferences(threads=2, watts_per_thread=10)
    assert kwh_per_day(plain) == pytest.approx(hours_per_day(plain) * 0.02)
    both = Preferences(threads=2, watts_per_thread=10, while_in_use=True, cpu_percent_in_use=50)
    assert kwh_per_day(both) == pytest.approx(hours_per_day(both) * 0.02 * 0.9)


def test_bytes_are_units_times_bytes():
    assert bytes_per_day(hours=2, unit_seconds=240, bytes_per_unit=1e6) == pytest.approx(30e6)
