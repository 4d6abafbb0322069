"""One sensor on the board: when it is due, what it last said, and whether it still answers."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.sensors.sensor import Sensor

__all__ = ["Pace", "Slot"]

T = TypeVar("T")
_AT_ONCE: Final = float("-inf")
_NOT_NOW: Final = float("inf")


class Pace(IntEnum):
    """How much haste there is; the index into a slot's periods."""

    QUICK = 0
    """A worker runs: it may have to stop at once."""
    CALM = 1
    """There is nothing to stop: a change may be seen a little later."""
    REST = 2
    """Nobody needs the readings: the user has paused the agent."""


class Slot(Generic[T]):
    """Times are of a monotonic clock, in seconds.

    `moved`: whether a value differs enough from the one before it to wake the agent.
    `periods_seconds`: one for each pace. `wanted`: whether anybody wants to know; if not, the
    value is unknown and nothing is read.
    """

    def __init__(
        self,
        sensor: Sensor[T],
        unknown: T,
        periods_seconds: tuple[float, float, float],
        moved: Callable[[T, T], bool],
        *,
        wanted: Callable[[], bool] = lambda: True,
        deadline_seconds: float = 5.0,
    ) -> None:
        self.sensor = sensor
        self.due = _AT_ONCE
        """When the next read is; never while one is under way."""
        self._unknown = unknown
        self._periods_seconds = periods_seconds
        self._moved = moved
        self._wanted = wanted
        self._deadline_seconds = deadline_seconds
        self._pace = Pace.CALM
        self._value = unknown
        self._told = unknown
        self._last = _AT_ONCE
        self._began: float | None = None

    def value(self, now: float) -> T:
        """Return the last answer; the unknown one while the sensor is overdue with a new one."""
        return self._unknown if self.is_overdue(now) else self._value

    def is_overdue(self, now: float) -> bool:
        """Whether a read has been going on for longer than it may."""
        return self._began is not None and now - self._began > self._deadline_seconds

    def keep(self, pace: Pace) -> None:
        """Be read at this pace."""
        self._pace = pace
        if self.due != _NOT_NOW:
            self.due = self._due()

    def hurry(self) -> None:
        """Be read at once."""
        self._last = _AT_ONCE
        if self.due != _NOT_NOW:
            self.due = _AT_ONCE

    def queue(self, now: float) -> None:
        """A read will begin soon."""
        self._last = now
        self.due = _NOT_NOW

    def skip(self, now: float) -> bool:
        """Read nothing this time if nobody wants to know; return whether that is so."""
        if self._wanted():
            return False
        self._last = now
        self.finish(self._unknown)
        return True

    def begin(self, now: float) -> None:
        """A read begins."""
        self._began = now

    def finish(self, value: T) -> bool:
        """A read has ended; return whether the value has moved since the last one that had."""
        self._value = value
        self._began = None
        self.due = self._due()
        if not self._moved(self._told, value):
            return False
        self._told = value
        return True

    def lose(self) -> bool:
        """The sensor hangs; return whether that says something new."""
        was_known, self._told = self._told != self._unknown, self._unknown
        return was_known

    def read(self, now: float) -> bool:
        """Read here and now; return whether the value has moved."""
        self.queue(now)
        self.begin(now)
        return self.finish(self.sensor.read())

    def _due(self) -> float:
        """Return the next multiple of the period.

        So several sensors are read in one go, and the processor wakes up once for them all.
        """
        period = self._periods_seconds[self._pace]
        return _AT_ONCE if self._last == _AT_ONCE else (self._last // period + 1) * period
