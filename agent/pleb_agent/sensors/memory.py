"""Memory: all of it, what is available, and what the worker holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from pleb_agent.sensors.kernel_files import KeptFile, read_number, read_word

if TYPE_CHECKING:
    from pleb_agent.sensors.sensor import WorkerPid

__all__ = ["UNKNOWN_MEMORY", "LinuxMemory", "Memory", "PsutilMemory", "cgroup_folder"]


@dataclass(frozen=True)
class Memory:
    """Bytes. None: not known. `worker`: resident memory of the worker, 0 without one."""

    total: int | None
    available: int | None
    worker: int = 0


UNKNOWN_MEMORY: Final = Memory(None, None)


def cgroup_folder(root: Path) -> Path | None:
    """Return the folder of this process's control group; None: there are none of version 2.

    `root`: that of the file system, or a test's tree (cgroups(7), `/proc/PID/cgroup`).
    """
    for line in (read_word(root / "proc/self/cgroup") or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        if hierarchy == "0":
            return root / "sys/fs/cgroup" / rest.partition(":")[2].lstrip("/")
    return None


class LinuxMemory:
    """Reads /proc/meminfo; a control group's limit counts where it is smaller."""

    def __init__(self, worker_pid: WorkerPid, root: Path = Path("/")) -> None:
        self._worker_pid = worker_pid
        self._root = root
        self._meminfo = KeptFile(root / "proc/meminfo")
        self._group = _limiting_group(root)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._worker_file: tuple[int, KeptFile] | None = None

    def read(self) -> Memory:
        """Return the memory now."""
        total, available = _parse_meminfo(self._meminfo.read() or b"")
        if self._group is not None:
            total, available = _within(self._group, total, available)
        return Memory(total, available, self._worker_bytes())

    def _worker_bytes(self) -> int:
        pid = self._worker_pid()
        if self._worker_file is not None and self._worker_file[0] != pid:
            self._worker_file[1].close()
            self._worker_file = None
        if pid is None:
            return 0
        if self._worker_file is None:
            self._worker_file = pid, KeptFile(self._root / "proc" / str(pid) / "statm")
        words = (self._worker_file[1].read() or b"").split()
        return int(words[1]) * self._page_bytes if len(words) > 1 else 0


def _limiting_group(root: Path) -> Path | None:
    """Return the group, ours or one above it, with the smallest limit; None: there is no limit.

    It is looked for once: a limit that is set later is not seen.
    """
    folder, stop = cgroup_folder(root), root / "sys/fs/cgroup"
    found: tuple[int, Path] | None = None
    while folder is not None and folder.is_relative_to(stop):
        limit = read_number(folder / "memory.max")  # `max` where there is none
        if limit is not None and (found is None or limit < found[0]):
            found = limit, folder
        folder = folder.parent
    return None if found is None else found[1]


def _within(group: Path, total: int | None, available: int | None) -> tuple[int | None, int | None]:
    """Return total and available memory as far as the group may use them."""
    limit, used = read_number(group / "memory.max"), _used_bytes(group)
    if limit is None or (total is not None and limit >= total):
        return total, available
    left = None if used is None else max(0, limit - used)
    return limit, min((room for room in (available, left) if room is not None), default=None)


def _used_bytes(group: Path) -> int | None:
    """Return what the group holds and cannot drop at once."""
    used = read_number(group / "memory.current")
    if used is None:
        return None
    for line in (read_word(group / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return max(0, used - int(value))
    return used


def _parse_meminfo(data: bytes) -> tuple[int | None, int | None]:
    """Return MemTotal and MemAvailable, in bytes."""
    found: dict[bytes, int] = {}
    for line in data.split(b"\n", 5)[:5]:
        name, _, value = line.partition(b":")
        words = value.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * 1024
    return found.get(b"MemTotal"), found.get(b"MemAvailable")


class PsutilMemory:
    """On Windows and macOS."""

    def __init__(self, worker_pid: WorkerPid) -> None:
        self._worker_pid = worker_pid

    def read(self) -> Memory:
        """Return the memory now."""
        memory = psutil.virtual_memory()
        return Memory(memory.total, memory.available, self._worker_bytes())

    def _worker_bytes(self) -> int:
        pid = self._worker_pid()
        if pid is None:
            return 0
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0
