"""How much of the processors' time other programs take.

On Linux from the kernel's counters (proc(5), `/proc/stat`), over some seconds:

    others = (user + system + irq + softirq - own) / (total - steal)

- Waiting for a disk (iowait) is no load: the processors are free.
- Stolen time is not this machine's: the hypervisor gave it to another one.
- Programs that run with a nice value above 0 do not count: they have asked to come last, as our
  worker does, and two who wait for each other would never begin. Their time in the kernel cannot
  be separated from that of others and counts. A program of class SCHED_IDLE without a nice value
  counts: the kernel books its time as `user`.
- `own` is what agentd, its children and the worker with its children used in `system`, and in
  `user` where they are not nice.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

from pleb_agent.sensors.kernel_files import KeptFile, read_word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.sensors.sensor import WorkerPid

__all__ = [
    "Counters",
    "LinuxLoad",
    "PsutilLoad",
    "parse_cpu_line",
    "parse_process",
    "process_seconds",
]

PROC: Final = Path("/proc")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_READS_PER_SEARCH: Final = 10
"""How often children are searched for."""
_BUSY_TICKS: Final = 5


class Counters(NamedTuple):
    """Ticks of a clock, all processors together. `busy`: work that is not nice."""

    busy: int
    total: int


def parse_cpu_line(stat: bytes) -> Counters | None:
    """Return the counters in the first line of /proc/stat; None: it is not such a file."""
    words = stat.split(None, 9)
    if len(words) < 9 or words[0] != b"cpu":
        return None
    try:
        user, nice, system, idle, io_wait, irq, soft_irq, _ = map(int, words[1:9])
    except ValueError:
        return None
    busy = user + system + irq + soft_irq
    return Counters(busy, busy + nice + idle + io_wait)


def parse_process(stat: bytes) -> int | None:
    """Return the ticks in /proc/PID/stat that the kernel books as work that is not nice.

    Its second field may hold spaces and brackets. None: it is not such a file.
    """
    words = stat[stat.rfind(b")") + 2 :].split(None, 17)
    try:
        system, is_nice = int(words[12]), int(words[16]) > 0
        return system if is_nice else system + int(words[11])
    except (IndexError, ValueError):
        return None


class _Window:
    """The last steps, as many as make up `length` of all processors' time, or one longer step."""

    def __init__(self, length: float) -> None:
        self._length = length
        self._steps: deque[Counters] = deque()
        self._sum = Counters(0, 0)

    def add(self, step: Counters) -> float | None:
        """Take one more step; return the load over the window, 0 to 100; None: no time passed."""
        self._steps.append(step)
        busy, total = self._sum.busy + step.busy, self._sum.total + step.total
        while len(self._steps) > 1 and total - self._steps[0].total >= self._length:
            old = self._steps.popleft()
            busy, total = busy - old.busy, total - old.total
        self._sum = Counters(busy, total)
        return None if total <= 0 else min(100.0, max(0.0, 100 * busy / total))

    def clear(self) -> None:
        self._steps.clear()
        self._sum = Counters(0, 0)


class LinuxLoad:
    """Reads the counters; the answer covers the last `window_seconds`, or one longer step.

    Called once a second all day: it reads two files, and those of less busy processes now and then.
    """

    def __init__(
        self,
        worker_pid: WorkerPid,
        *,
        window_seconds: float = 4.0,
        proc: Path = PROC,
        own_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self._worker_pid = worker_pid
        self._own_seconds = own_seconds
        self._proc = proc
        self._stat = KeptFile(proc / "stat", 512)
        self._window = _Window(window_seconds * _TICKS_PER_SECOND * (os.cpu_count() or 1))
        self._before: Counters | None = None
        self._worker: _Process | None = None
        self._others: dict[int, _Process] = {}
        self._own_before = own_seconds()
        self._reads = 0

    def read(self) -> float | None:
        """Return the others' load; None in the first call."""
        own = self._own_step()
        stat = self._stat.read()
        counters = None if stat is None else parse_cpu_line(stat)
        before, self._before = self._before, counters
        if counters is None or before is None:
            self._window.clear()
            return None
        step = Counters(max(0, counters.busy - before.busy - own), counters.total - before.total)
        return self._window.add(step)

    def _own_step(self) -> int:
        """Return what our processes took since the last call, in ticks that are not nice."""
        is_first = self._reads == 0
        pid = self._worker_pid()
        if pid != (None if self._worker is None else self._worker.pid):
            if self._worker is not None:
                self._worker.close()
            self._worker = None if pid is None else _Process(pid, self._proc, is_old=is_first)
        seconds = self._own_seconds()
        ticks = round((seconds - self._own_before) * _TICKS_PER_SECOND)
        self._own_before = seconds
        if self._worker is not None:
            ticks += self._worker.step()
        is_search = self._reads % _READS_PER_SEARCH == 0
        if is_search:
            self._find_others(is_first=is_first)
        for process in self._others.values():
            if is_search or process.is_busy:
                ticks += process.step()
        self._reads += 1
        return ticks

    def _find_others(self, *, is_first: bool) -> None:
        """Find the children of agentd and of the worker; the probe is one."""
        parents = {os.getpid()} | ({self._worker.pid} if self._worker else set())
        found, new = set(parents), set(parents)
        while new:
            new = {child for pid in new for child in self._children(pid)} - found
            found |= new
        found -= parents
        for pid in tuple(self._others):
            if pid not in found:
                self._others.pop(pid).close()
        for pid in found - set(self._others):
            self._others[pid] = _Process(pid, self._proc, is_old=is_first)

    def _children(self, pid: int) -> list[int]:
        """Children of its first thread, which is the one that starts processes here."""
        words = read_word(self._proc / str(pid) / "task" / str(pid) / "children")
        return [int(word) for word in (words or "").split() if word.isdigit()]


class _Process:
    """One of ours. `is_old`: it may have worked long before we began to count."""

    def __init__(self, pid: int, proc: Path, *, is_old: bool) -> None:
        self.pid = pid
        self._file = KeptFile(proc / str(pid) / "stat", 512)
        self._before = (self._ticks() or 0) if is_old else 0
        self.is_busy = False
        """It is worth a read every time."""

    def step(self) -> int:
        """Return what it took since the last call."""
        ticks = self._ticks()
        if ticks is None:
            return 0
        before, self._before = self._before, ticks
        self.is_busy = ticks - before > _BUSY_TICKS
        return max(0, ticks - before)

    def close(self) -> None:
        self._file.close()

    def _ticks(self) -> int | None:
        stat = self._file.read()
        return None if stat is None else parse_process(stat)


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
    """On Windows and macOS, which do not count the time of nice programs apart: all of it counts.

    The answer covers the last `window_seconds`, or one longer step.
    """

    def __init__(
        self,
        worker_pid: WorkerPid,
        *,
        pids_on_cards: Callable[[], Sequence[int]] = tuple,
        seconds_of_all: Callable[[], tuple[float, float]] = cpu_seconds,
        seconds_of: Callable[[int], float | None] = process_seconds,
        window_seconds: float = 4.0,
        cores: int | None = None,
    ) -> None:
        self._worker_pid = worker_pid
        self._pids_on_cards = pids_on_cards
        self._seconds_of_all = seconds_of_all
        self._seconds_of = seconds_of
        self._window = _Window(window_seconds * (cores or os.cpu_count() or 1) * 1000)
        self._before: Counters | None = None
        self._own: dict[int, float] = {}

    def read(self) -> float | None:
        """Return the others' load; None in the first call."""
        busy, idle = self._seconds_of_all()
        counters = Counters(round(busy * 1000), round((busy + idle) * 1000))
        pids = {os.getpid(), *self._pids_on_cards()}
        if (worker := self._worker_pid()) is not None:
            pids.add(worker)
        now = {pid: seconds for pid in pids if (seconds := self._seconds_of(pid)) is not None}
        own_before, self._own = self._own, now
        before, self._before = self._before, counters
        if before is None:
            return None
        own = round(1000 * sum(max(0.0, now[pid] - own_before.get(pid, 0.0)) for pid in now))
        step = Counters(max(0, counters.busy - before.busy - own), counters.total - before.total)
        return self._window.add(step)
