"""How many cores the workers use, measured only when somebody looks: nothing here ticks."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.sensors.load import parse_process, process_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["WorkerMeter", "worker_seconds"]

_LEAST_SECONDS: Final = 1.0
"""A shorter time is too coarse for the kernel's clock of 10 ms."""
_MOST_SECONDS: Final = 30.0
"""A longer one says nothing about now."""


def worker_seconds(pid: int) -> float | None:
    """Return the processor time of a process with its threads; None: it is gone."""
    if sys.platform != "linux":
        return process_seconds(pid)
    try:
        ticks = parse_process(Path(f"/proc/{pid}/stat").read_bytes())
    except OSError:
        return None
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


class WorkerMeter:
    """Remembers the last look. `clock`: seconds that setting the clock does not change."""

    def __init__(
        self,
        seconds_of: Callable[[int], float | None] = worker_seconds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_of = seconds_of
        self._clock = clock
        self._at = 0.0
        self._before: dict[int, float] = {}
        self._cores: float | None = None

    def cores(self, pids: Sequence[int]) -> float | None:
        """Return how many cores these processes use; None: not known yet."""
        now = self._clock()
        passed = now - self._at
        if passed < _LEAST_SECONDS and self._before.keys() == set(pids):
            return self._cores
        found = {pid: seconds for pid in pids if (seconds := self._seconds_of(pid)) is not None}
        known = found.keys() & self._before.keys()
        used = sum(found[pid] - self._before[pid] for pid in known)
        is_recent = bool(known) and _LEAST_SECONDS <= passed <= _MOST_SECONDS
        self._cores = max(0.0, used) / passed if is_recent else None
        self._at, self._before = now, found
        return self._cores
