"""How much of the processors' time other programs take, on Linux.

From the kernel's counters (proc(5), `/proc/stat`), over some seconds:

    others = (user + system + irq + softirq - own) / (total - steal)

- Waiting for a disk (iowait) is no load: the processors are free.
- Stolen time is not this machine's: the hypervisor gave it to another one.
- Programs that run with a nice value above 0 do not count: they have asked to come last, as our
  worker does, and two who wait for each other would never begin. Their time in the kernel cannot
  be told from that of others and counts. A program of class SCHED_IDLE without a nice value
  counts: the kernel books its time as `user`.
- `own` is what agentd, its children and the worker with its children took in `system`, and in
  `user` where they are not nice.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.sensors.kernel_files import KeptFile

if TYPE_CHECKING:
    from pleb_agent.sensors.sensor import WorkerPid

__all__ = ["Counters", "LinuxLoad", "OwnTicks", "others_percent", "parse_cpu_line"]

PROC: Final = Path("/proc")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_READS_PER_SEARCH: Final = 10
"""Children are looked for so often."""


@dataclass(frozen=True)
class Counters:
    """Clock ticks of all processors together. `busy`: work that is not nice."""

    busy: int
    total: int


def parse_cpu_line(stat: bytes) -> Counters | None:
    """Return the counters in the first line of /proc/stat; None: that is no such file."""
    words = stat[: stat.find(b"\n")].split()
    if len(words) < 9 or words[0] != b"cpu":
        return None
    try:
        user, nice, system, idle, io_wait, irq, soft_irq, _ = map(int, words[1:9])
    except ValueError:
        return None
    busy = user + system + irq + soft_irq
    return Counters(busy, busy + nice + idle + io_wait)


@dataclass(frozen=True)
class OwnTicks:
    """What one of our processes took in all its life."""

    user: int
    system: int
    is_nice: bool

    @property
    def busy(self) -> int:
        """What of it the kernel books as work that is not nice."""
        return self.system + (0 if self.is_nice else self.user)


def parse_process(stat: bytes) -> OwnTicks | None:
    """Return what /proc/PID/stat says; its second field may hold spaces and brackets."""
    words = stat[stat.rfind(b")") + 2 :].split()
    try:
        return OwnTicks(int(words[11]), int(words[12]), int(words[16]) > 0)
    except (IndexError, ValueError):
        return None


def others_percent(steps: deque[Counters]) -> float | None:
    """Return the share of `busy` in `total` over all steps, 0 to 100; None: no time has passed."""
    total = sum(step.total for step in steps)
    if total <= 0:
        return None
    return min(100.0, max(0.0, 100 * sum(step.busy for step in steps) / total))


class LinuxLoad:
    """Reads the counters; the answer covers the last `window_seconds`, or one longer step."""

    def __init__(
        self, worker_pid: WorkerPid, *, window_seconds: float = 4.0, proc: Path = PROC
    ) -> None:
        self._worker_pid = worker_pid
        self._proc = proc
        self._stat = KeptFile(proc / "stat", 512)
        self._window_ticks = window_seconds * _TICKS_PER_SECOND * (os.cpu_count() or 1)
        self._before: Counters | None = None
        self._steps: deque[Counters] = deque()
        self._own: dict[int, tuple[KeptFile, int]] = {}
        self._family: set[int] = {os.getpid()}
        self._reads = 0

    def read(self) -> float | None:
        """Return the others' load; None in the first call."""
        own = self._own_step()
        stat = self._stat.read()
        counters = None if stat is None else parse_cpu_line(stat)
        before, self._before = self._before, counters
        if counters is None or before is None:
            self._steps.clear()
            return None
        busy = max(0, counters.busy - before.busy - own)
        self._steps.append(Counters(busy, counters.total - before.total))
        self._forget_old_steps()
        return others_percent(self._steps)

    def _forget_old_steps(self) -> None:
        kept = sum(step.total for step in self._steps)
        while len(self._steps) > 1 and kept - self._steps[0].total >= self._window_ticks:
            kept -= self._steps.popleft().total

    def _own_step(self) -> int:
        """Return what our processes took since the last call, in ticks that are not nice."""
        is_first = self._reads == 0
        worker = self._worker_pid()
        if self._reads % _READS_PER_SEARCH == 0 or (worker and worker not in self._family):
            self._find_family(worker)
        self._reads += 1
        return sum(self._step_of(pid, is_first=is_first) for pid in tuple(self._own))

    def _step_of(self, pid: int, *, is_first: bool) -> int:
        file, before = self._own[pid]
        stat = file.read()
        ticks = None if stat is None else parse_process(stat)
        if ticks is None:
            del self._own[pid]
            return 0
        self._own[pid] = (file, ticks.busy)
        if before < 0:  # new: it began since the last call, unless there was none
            return 0 if is_first else ticks.busy
        return max(0, ticks.busy - before)

    def _find_family(self, worker: int | None) -> None:
        self._family = self._descendants({os.getpid()} | ({worker} if worker else set()))
        for pid in tuple(self._own):
            if pid not in self._family:
                self._own.pop(pid)[0].close()
        for pid in self._family:
            if pid not in self._own:
                self._own[pid] = (KeptFile(self._proc / str(pid) / "stat", 512), -1)

    def _descendants(self, pids: set[int]) -> set[int]:
        found, new = set(pids), set(pids)
        while new:
            new = {child for pid in new for child in self._children(pid)} - found
            found |= new
        return found

    def _children(self, pid: int) -> list[int]:
        """Children of its first thread, which is the one that starts processes here."""
        file = KeptFile(self._proc / str(pid) / "task" / str(pid) / "children")
        data = file.read()
        file.close()
        return [int(word) for word in (data or b"").split()]
