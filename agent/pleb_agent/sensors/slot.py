"""One sensor on the board: when it is due, what it last said, and whether it still answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from pleb_agent.sensors.sensor import Sensor

__all__ = ["Slot"]

T = TypeVar("T")


class Slot(Generic[T]):
    """Times are of a monotonic clock, in seconds."""

    def __init__(
        self, sensor: Sensor[T], unknown: T, *, period_seconds: float, deadline_seconds: float = 5.0
    ) -> None:
        self.sensor = sensor
        self.period_seconds = period_seconds
        self.due = float("-inf")
        self._unknown = unknown
        self._deadline_seconds = deadline_seconds
        self._value = unknown
        self._began: float | None = None
        self._is_queued = False

    def value(self, now: float) -> T:
        """Return the last answer; the unknown one while the sensor is overdue with a new one."""
        return self._unknown if self.is_overdue(now) else self._value

    def is_overdue(self, now: float) -> bool:
        """Whether a read has been going on for longer than it may."""
        return self._began is not None and now - self._began > self._deadline_seconds

    def is_due(self, now: float) -> bool:
        """Whether it is time for a read, and none is under way."""
        return now >= self.due and not self._is_queued

    def queue(self, now: float) -> None:
        """A read will begin soon; the next one is due a period after now."""
        self._is_queued = True
        self.due = now + self.period_seconds

    def begin(self, now: float) -> None:
        """A read begins."""
        self._began = now

    def finish(self, value: T) -> bool:
        """A read has ended; return whether it said something new."""
        is_new = value != self._value
        self._value = value
        self._began = None
        self._is_queued = False
        return is_new

    def read(self, now: float) -> bool:
        """Read here and now; return whether the sensor said something new."""
        self.queue(now)
        self.begin(now)
        return self.finish(self.sensor.read())
