"""Estimates of what volunteering takes: energy, hours, bytes. None of it is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.core.schedule import parse_hours

if TYPE_CHECKING:
    from pleb_agent.core.preferences import Preferences

__all__ = ["IDLE_SHARE", "ON_SHARE", "bytes_per_day", "hours_per_day", "kwh", "kwh_per_day"]

ON_SHARE: Final = 0.35
"""Share of the time in which a home PC is on: an estimate.

Between two traces of home PCs in the Failure Trace Archive (Javadi, Kondo, Iosup, Epema: J.
Parallel Distrib. Comput. 73, 2013), by the means of their times up and down: Skype's superpeers
16.27 h and 14.31 h (53 %), Overnet's peers 2.29 h and 12.00 h (16 %).
"""
IDLE_SHARE: Final = 0.8
"""Share of that time without input for some minutes: an assumption."""

_WEEK_DAYS: Final = 7


def kwh(
    compute_seconds: float, threads: int, watts_per_thread: float, cpu_percent: int = 100
) -> float:
    """Return the energy of `compute_seconds` by the clock, of that many busy cores."""
    return compute_seconds / 3600 * threads * watts_per_thread / 1000 * cpu_percent / 100


def hours_per_day(preferences: Preferences) -> float:
    """Return the hours of work on a usual day: the allowed ones in which a usual PC is free."""
    spans = parse_hours(preferences.hours).spans
    allowed = sum(end - start for start, end in spans) / 60 / _WEEK_DAYS
    return allowed * ON_SHARE * (1.0 if preferences.while_in_use else IDLE_SHARE)


def kwh_per_day(preferences: Preferences) -> float:
    """Return the energy of a usual day, at the share of the cores that idle time allows."""
    seconds = hours_per_day(preferences) * 3600
    idle = IDLE_SHARE if preferences.while_in_use else 1.0
    percent = idle * preferences.cpu_percent_idle + (1 - idle) * preferences.cpu_percent_in_use
    return kwh(seconds, preferences.threads, preferences.watts_per_thread, round(percent))


def bytes_per_day(hours: float, unit_seconds: float, bytes_per_unit: float) -> float:
    """Return the traffic of a day with that many hours of work."""
    return hours * 3600 / unit_seconds * bytes_per_unit
