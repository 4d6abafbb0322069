"""What of the machine can keep everybody from working: its disk and its clock."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_coordinator.home.layout import Home

__all__ = ["LEAST_FREE_BYTES", "Machine", "note_clock", "read_machine"]

LEAST_FREE_BYTES: Final = 100 * 2**20
"""With less free, the coordinator may not be able to store what it accepts."""
_CLOCK_SECONDS: Final = 900.0
"""How long it counts what hosts' requests said of the clock."""


class Machine(msgspec.Struct, frozen=True):
    """The machine that the coordinator runs on."""

    free_bytes: int | None = None
    """On the disk of the home; None: not known."""
    clock_ahead_seconds: float = 0.0
    """How far the clock is ahead of most hosts' clocks (negative: behind); 0: it is right."""

    @property
    def disk_is_full(self) -> bool:
        """Whether there is hardly any room left."""
        return self.free_bytes is not None and self.free_bytes < LEAST_FREE_BYTES


class _Clock(msgspec.Struct, frozen=True):
    at: float
    ahead_seconds: float


def note_clock(file: Path, ahead_seconds: float, now: float) -> None:
    """Write how far most hosts find the clock ahead, for every process and command."""
    write_durably(file, msgspec.json.encode(_Clock(now, ahead_seconds)), shared=True)


def read_machine(home: Home, now: float) -> Machine:
    """Return the state of the machine."""
    try:
        free: int | None = shutil.disk_usage(home.path).free
    except OSError:
        free = None
    try:
        noted = msgspec.json.decode(home.clock_file.read_bytes(), type=_Clock)
    except (OSError, msgspec.DecodeError):
        return Machine(free)
    fresh = abs(now - noted.at) < _CLOCK_SECONDS
    return Machine(free, noted.ahead_seconds if fresh else 0.0)
