"""Memory: all of it, what is free for use, and what the worker holds."""

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
    """Bytes. None: cannot be told. `worker`: resident memory of the worker, 0 without one."""

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
        self._group = cgroup_folder(root)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def read(self) -> Memory:
        """Return the memory now."""
        total, available = _parse_meminfo(self._meminfo.read() or b"")
        limit, used = self._group_limit()
        if limit is not None and total is not None and limit < total:
            total = limit
            if used is not None and available is not None:
                available = max(0, min(available, limit - used))
        return Memory(total, available, self._worker_bytes())

    def _group_limit(self) -> tuple[int | None, int | None]:
        """Return the smallest limit of the groups above us, and what that group uses."""
        folder, stop = self._group, self._root / "sys/fs/cgroup"
        found: tuple[int | None, int | None] = None, None
        while folder is not None and folder.is_relative_to(stop):
            limit = read_number(folder / "memory.max")  # `max` where there is none
            if limit is not None and (found[0] is None or limit < found[0]):
                found = limit, _used_bytes(folder)
            folder = folder.parent
        return found

    def _worker_bytes(self) -> int:
        pid = self._worker_pid()
        if pid is None:
            return 0
        words = (read_word(self._root / "proc" / str(pid) / "statm") or "").split()
        return int(words[1]) * self._page_bytes if len(words) > 1 else 0


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
