"""One sensor of the scheduler: when it is due, what it last said, and whether it still answers."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.sensors.sensor import Sensor

__all__ = ["Pace", "ScheduledSensor"]

T = TypeVar("T")
_NOW: Final = float("-inf")
_NEVER: Final = float("inf")


class Pace(IntEnum):
    """How often to read; the index into a sensor's periods."""

    QUICK = 0
    """A worker runs: it may have to stop at once."""
    CALM = 1
    """There is nothing to stop: a change may be seen a little later."""
    REST = 2
    """The readings are not needed: the user has paused the agent."""


class ScheduledSensor(Generic[T]):
    """Times are of a monotonic clock, in seconds.

    `changed`: whether a value differs enough from the last reported one to wake the agent.
    `periods_seconds`: one for each pace. `wanted`: whether the value is needed; if not, it is
    unknown and nothing is read.
    """

    def __init__(
        self,
        sensor: Sensor[T],
        unknown: T,
        periods_seconds: tuple[float, float, float],
        changed: Callable[[T, T], bool],
        *,
        wanted: Callable[[], bool] = lambda: True,
        deadline_seconds: float = 5.0,
    ) -> None:
        self.sensor = sensor
        self.due = _NOW
        """When the next read is; never while one is in progress."""
        self._unknown = unknown
        self._periods_seconds = periods_seconds
        self._changed = changed
        self._wanted = wanted
        self._deadline_seconds = deadline_seconds
        self._pace = Pace.CALM
        self._value = unknown
        self._reported = unknown
        self._last = _NOW
        self._began: float | None = None

    def value(self, now: float) -> T:
        """Return the last answer; the unknown one while the next answer is overdue."""
        return self._unknown if self.is_overdue(now) else self._value

    def is_overdue(self, now: float) -> bool:
        """Return whether a read takes longer than it may."""
        return self._began is not None and now - self._began > self._deadline_seconds

    def set_pace(self, pace: Pace) -> None:
        """Be read at this pace."""
        self._pace = pace
        if self.due != _NEVER:
            self.due = self._next_due()

    def hurry(self) -> None:
        """Be read at once, or again after the read in progress."""
        self._last = _NOW
        if self.due != _NEVER:
            self.due = _NOW

    def queue(self, now: float) -> None:
        """A read will begin soon."""
        self._last = now
        self.due = _NEVER

    def skip(self, now: float) -> bool:
        """Return whether the value is not needed now; if so, it becomes unknown without a read."""
        if self._wanted():
            return False
        self._last = now
        self.finish(self._unknown)
        return True

    def begin(self, now: float) -> None:
        """A read begins."""
        self._began = now

    def finish(self, value: T) -> bool:
        """A read has ended; return whether the value has changed since it was last reported."""
        self._value = value
        self._began = None
        self.due = self._next_due()
        if not self._changed(self._reported, value):
            return False
        self._reported = value
        return True

    def lose(self) -> bool:
        """The sensor hangs; return whether its value was known until now."""
        was_known, self._reported = self._reported != self._unknown, self._unknown
        return was_known

    def read(self, now: float) -> bool:
        """Read in this thread; return whether the value has changed."""
        self.queue(now)
        self.begin(now)
        return self.finish(self.sensor.read())

    def _next_due(self) -> float:
        """Return the next multiple of the period.

        So several sensors are read in one go, and the processor wakes up once for them all.
        """
        period = self._periods_seconds[self._pace]
        return _NOW if self._last == _NOW else (self._last // period + 1) * period
