"""What this PC has given, day by day, and what a project may expect of it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from pleb_agent.core.energy import bytes_per_day, hours_per_day, kwh_per_day
from pleb_agent.web.views import ContributionView, DayView, Expectation
from pleb_shared.protocol.codec import delta_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.core.preferences import Preferences
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["contribution", "expectation"]

_MOST_DAYS: Final = 400
_USUAL_UNIT_SECONDS: Final = 240.0
"""What a project's units take on a usual PC, until this one has done some."""


def contribution(
    days: Mapping[str, Mapping[str, float]], totals: Mapping[str, float], today: str, count: int
) -> ContributionView:
    """Return the last `count` days up to `today` (YYYY-MM-DD), without gaps, and all in all."""
    last = date.fromisoformat(today)
    wanted = [
        (last - timedelta(days=back)).isoformat()
        for back in reversed(range(max(1, min(count, _MOST_DAYS))))
    ]
    return ContributionView(
        days=[_day(day, days.get(day, {})) for day in wanted], total=_day("", totals)
    )


def expectation(
    metadata: ProjectMetadata,
    preferences: Preferences,
    *,
    unit_seconds: float | None,
    memory_bytes: int,
) -> Expectation:
    """Return what a project takes from this PC on a usual day.

    `unit_seconds`: what a unit took here so far; None: not known yet, a usual time is taken.
    A version's difference comes down and a delta goes up with each unit; shards come once and
    stay in the cache. All of it is an estimate.
    """
    hours = hours_per_day(preferences)
    seconds = unit_seconds or _USUAL_UNIT_SECONDS
    model, codec = metadata.model, metadata.codec
    down = delta_bytes(model, codec.down, codec.block)
    up = delta_bytes(model, codec.up, codec.block)
    return Expectation(
        unit_minutes=None if unit_seconds is None else unit_seconds / 60,
        hours_per_day=hours,
        download_bytes_per_day=bytes_per_day(hours, seconds, down),
        upload_bytes_per_day=bytes_per_day(hours, seconds, up),
        kwh_per_day=kwh_per_day(preferences),
        disk_bytes=preferences.cache_bytes,
        memory_bytes=min(memory_bytes, metadata.limits.memory_bytes),
    )


def _day(day: str, sums: Mapping[str, float]) -> DayView:
    known = {name: sums[name] for name in DayView.__struct_fields__ if name in sums}
    return DayView(day=day, **known)
