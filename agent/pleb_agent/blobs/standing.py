"""What is remembered of sources: how fast they were, and which are left alone until when. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["Fault", "Standings"]

_WEIGHT: Final = 0.3
"""Of the newest measurement of a speed."""
_MEASURED_BYTES: Final = 256 * 1024
"""Of fewer bytes the time is that of the way, not of the line."""
_MOST_SECONDS: Final = 3600.0
_MOST_REMEMBERED: Final = 256


class Fault(StrEnum):
    """What a source did."""

    WRONG_BYTES = "wrong_bytes"
    """It sent other bytes than the signed ones: damaged, or a liar."""
    LACKING = "lacking"
    """It does not have what it said it has."""
    STALLED = "stalled"
    UNREACHABLE = "unreachable"


_FIRST_SECONDS: Final = {
    Fault.WRONG_BYTES: 900.0,
    Fault.LACKING: 60.0,
    Fault.STALLED: 30.0,
    Fault.UNREACHABLE: 30.0,
}
"""How long a source is left alone for its first fault; each further one doubles it."""


@dataclass
class _Record:
    speed: float | None = None
    """Bytes per second."""
    faults: int = 0
    shunned_until: float = 0.0


class Standings:
    """The records of all sources of this process, by their names.

    Times are in seconds of any monotonic clock. The least recently changed records are forgotten.
    """

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def speed(self, name: str) -> float | None:
        """Return the bytes per second that a source brought lately; None: not measured yet."""
        record = self._records.get(name)
        return None if record is None else record.speed

    def is_shunned(self, name: str, now: float) -> bool:
        """Whether a source is to be left alone for a fault of its."""
        record = self._records.get(name)
        return record is not None and now < record.shunned_until

    def brought(self, name: str, amount: int, seconds: float) -> None:
        """A source has sent `amount` right bytes."""
        record = self._touch(name)
        if amount >= _MEASURED_BYTES:
            speed = amount / max(seconds, 1e-3)
            before = record.speed
            record.speed = speed if before is None else before + _WEIGHT * (speed - before)
        record.faults = max(0, record.faults - 1)

    def failed(self, name: str, fault: Fault, now: float) -> None:
        """A source did what it should not; it is left alone for a while."""
        record = self._touch(name)
        seconds = _FIRST_SECONDS[fault] * 2.0 ** min(record.faults, 16)
        record.faults += 1
        record.shunned_until = max(record.shunned_until, now + min(seconds, _MOST_SECONDS))

    def _touch(self, name: str) -> _Record:
        record = self._records.pop(name, None) or _Record()
        self._records[name] = record
        if len(self._records) > _MOST_REMEMBERED:
            del self._records[next(iter(self._records))]
        return record
