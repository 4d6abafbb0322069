"""How much of the processors' time other programs take, on Windows and macOS, by psutil.

As `load`, but these systems do not count the time of nice programs apart: all of it counts.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

import psutil

from pleb_agent.sensors.load import Counters, others_percent

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.sensors.sensor import WorkerPid

__all__ = ["PsutilLoad", "process_seconds"]


def cpu_seconds() -> tuple[float, float]:
    """Return the seconds that all processors together were busy and idle."""
    times = psutil.cpu_times()
    return times.user + times.system, times.idle


def process_seconds(pid: int) -> float | None:
    """Return the processor time of a process; None: it is gone or cannot be read."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


class PsutilLoad:
    """The answer covers the last `window_seconds`, or one longer step."""

    def __init__(
        self,
        worker_pid: WorkerPid,
        *,
        seconds_of_all: Callable[[], tuple[float, float]] = cpu_seconds,
        seconds_of: Callable[[int], float | None] = process_seconds,
        window_seconds: float = 4.0,
        cores: int | None = None,
    ) -> None:
        self._worker_pid = worker_pid
        self._seconds_of_all = seconds_of_all
        self._seconds_of = seconds_of
        self._window_ms = window_seconds * (cores or os.cpu_count() or 1) * 1000
        self._before: Counters | None = None
        self._steps: deque[Counters] = deque()
        self._own: dict[int, float] = {}

    def read(self) -> float | None:
        """Return the others' load; None in the first call."""
        busy, idle = self._seconds_of_all()
        counters = Counters(round(busy * 1000), round((busy + idle) * 1000))
        own = self._own_milliseconds(is_first=self._before is None)
        before, self._before = self._before, counters
        if before is None:
            return None
        step = Counters(max(0, counters.busy - before.busy - own), counters.total - before.total)
        self._steps.append(step)
        while sum(kept.total for kept in self._steps) - self._steps[0].total >= self._window_ms:
            self._steps.popleft()
        return others_percent(
            Counters(sum(s.busy for s in self._steps), sum(s.total for s in self._steps))
        )

    def _own_milliseconds(self, *, is_first: bool) -> int:
        """Return what agentd and the worker took since the last call."""
        pids = {os.getpid()} | ({worker} if (worker := self._worker_pid()) is not None else set())
        now = {pid: seconds for pid in pids if (seconds := self._seconds_of(pid)) is not None}
        before, self._own = self._own, now
        if is_first:
            return 0
        return round(1000 * sum(max(0.0, now[pid] - before.get(pid, 0.0)) for pid in now))
