"""For how long this PC will probably stay free, learned from when it was free before.

People keep to days and weeks, and most absences are short (Javadi et al. 2011). Both are read off
the past directly: how long the PC stayed free from this time of day on, and how much longer it
stayed free once it had been free for as long as now.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from pleb_agent.core.history import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["HABIT_EVENTS", "LEARNED_SECONDS", "FreeTime", "Habits", "habits_of"]

HABIT_EVENTS: Final = (
    EventKind.RUN,
    EventKind.PAUSE,
    EventKind.STOP,
    EventKind.START,
    EventKind.END,
)
"""The events of the history from which habits are read."""
_DAY_SECONDS: Final = 86_400.0
_LEARNED_DAYS: Final = 28
LEARNED_SECONDS: Final = _LEARNED_DAYS * _DAY_SECONDS
"""Older habits are forgotten."""
_WEEK_DAYS: Final = 7
_SATURDAY: Final = 5
_FEWEST: Final = 8
"""Past cases from which an estimate is made."""


class FreeTime(NamedTuple):
    """A time in which work was allowed, in seconds since 1970."""

    begin: float
    end: float


class Habits(NamedTuple):
    """When the PC was free, from the oldest time on, and since when it is free now."""

    times: Sequence[FreeTime]
    since: float | None = None
    """None: it is not free now."""

    def usually_free_seconds(self, now: float, weekday: int) -> float | None:
        """Return for how much longer a PC that is free now stays so, as often as not.

        Longer than it should is as bad as shorter: a cautious estimate made fleets slower
        (decision 70).

        Args:
            now: seconds since 1970.
            weekday: today's, from 0 for Monday.

        Returns:
            None: it is not free, or too little is known.
        """
        if self.since is None:
            return None
        cases = (self._from_this_hour(now, weekday), self._after(now - self.since))
        return min((_median(rests) for rests in cases if len(rests) >= _FEWEST), default=None)

    def _from_this_hour(self, now: float, weekday: int) -> list[float]:
        """Return how long it stayed free from this time on, on days of the same kind."""
        begins = [time.begin for time in self.times]
        weekend = weekday >= _SATURDAY
        found = []
        for days in range(1, _LEARNED_DAYS + 1):
            at = now - days * _DAY_SECONDS
            place = bisect_right(begins, at) - 1
            same = ((weekday - days) % _WEEK_DAYS >= _SATURDAY) == weekend
            if same and place >= 0 and self.times[place].end > at:
                found.append(self.times[place].end - at)
        return found

    def _after(self, seconds: float) -> list[float]:
        """Return how much longer it stayed free, of the times that were longer than this."""
        lengths = (time.end - time.begin for time in self.times)
        return [length - seconds for length in lengths if length > seconds]


def habits_of(events: Iterable[tuple[float, EventKind]]) -> Habits:
    """Return the habits that the history's events show, from the oldest event on.

    A time whose end is not known, since the PC went down, is left out, and so is one in which the
    clock was set back.
    """
    times: list[FreeTime] = []
    begin: float | None = None
    for at, kind in events:
        if kind is EventKind.RUN:
            begin = at if begin is None else begin
            continue
        latest = times[-1].end if times else 0.0
        if begin is not None and kind is not EventKind.START and at > begin >= latest:
            times.append(FreeTime(begin, at))
        begin = None
    return Habits(times, begin)


def _median(rests: list[float]) -> float:
    return sorted(rests)[len(rests) // 2]
