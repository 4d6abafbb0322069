"""The one place of the agent that reads the system's clock and randomness."""

from __future__ import annotations

import secrets
import time
from typing import Final

from pleb_agent.core.schedule import LocalTime

__all__ = ["day_before", "local_time", "system_clock", "system_draw", "tomorrow_morning"]

_GENERATOR = secrets.SystemRandom()
_MORNING_HOUR: Final = 6


def system_clock() -> float:
    """Return seconds since 1970."""
    return time.time()  # noqa: TID251 - the composition root passes this to everything else


def system_draw() -> float:
    """Return a uniform random number in [0, 1)."""
    return _GENERATOR.random()


def local_time(now: float) -> LocalTime:
    """Return the wall clock of this place at `now`."""
    local = time.localtime(now)
    return LocalTime(local.tm_wday, local.tm_hour * 60 + local.tm_min)


def day_before(now: float) -> tuple[float, float]:
    """Return when the local day before that of `now` began and ended."""
    local = time.localtime(now)
    year, month, day = local.tm_year, local.tm_mon, local.tm_mday
    ends = [time.mktime((year, month, one, 0, 0, 0, 0, 0, -1)) for one in (day - 1, day)]
    return ends[0], ends[1]


def tomorrow_morning(now: float) -> float:
    """Return six o'clock of the next local day, in seconds since 1970."""
    local = time.localtime(now)
    year, month, day = local.tm_year, local.tm_mon, local.tm_mday + 1
    return time.mktime((year, month, day, _MORNING_HOUR, 0, 0, 0, 0, -1))
