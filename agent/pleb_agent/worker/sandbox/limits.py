"""Resource limits and the ties to the parent: what holds without any security module."""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from pleb_agent.worker.sandbox.libc import prctl

__all__ = [
    "die_with_parent",
    "die_with_starter",
    "limit_files",
    "limit_memory",
    "limit_threads",
    "no_core_dumps",
]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_RESERVED_BYTES: Final = 256 * 2**20
_RESERVED_BYTES_PER_THREAD: Final = 160 * 2**20
"""Address space that is only reserved: glibc's arena (128 MiB at first), a stack."""
_MORE_PROCESSES: Final = 2048
"""What the user may start while a worker lives, before it cannot start threads any more."""


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread of `parent` that started it ends.

    Raises:
        OSError: the system is not Linux. The end of the pipe does the same there.
        ProcessLookupError: the parent has ended already.
    """
    if sys.platform != "linux":
        raise OSError("only Linux kills a process together with its parent")
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError("the process that started this one has ended")


def die_with_starter() -> None:
    """Call between fork and exec: the same from the first moment, however soon it is suspended.

    A process that is stopped before it ties itself would stay for ever when its starter is killed.
    What runs here may take no lock, since other threads of the starter may have held it.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def no_core_dumps() -> None:
    """Keep training data and keys out of core files, and other processes out of this one.

    Raises:
        OSError: the system has no such limit.
    """
    if sys.platform == "win32":
        raise OSError("Windows has no core files to limit")
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl(_PR_SET_DUMPABLE, 0)


def limit_memory(more_bytes: int, threads: int, *, mapped: bool = True) -> int:
    """Let this process take `more_bytes` of writable memory beyond what it has; returns the sum.

    RLIMIT_DATA counts private writable pages (heap, anonymous maps, stacks) and not the
    gigabytes of address space that torch only reserves. What it does not count, shared and
    growing maps and the page tables of maps that are only read, RLIMIT_AS bounds: everything that
    is mapped, with a margin for what threads reserve, of which `threads` compute. Not so
    `mapped`: a card's driver reserves terabytes of addresses, so only RLIMIT_DATA is set there.

    Raises:
        OSError: the system has no such limit.
    """
    if sys.platform != "linux":
        raise OSError("only Linux counts a process's writable memory against a limit")
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii")
    shown = dict(re.findall(r"^(Vm(?:Data|Size)):\s*(\d+) kB", status, re.MULTILINE))
    if len(shown) < 2:
        raise OSError("/proc/self/status does not show the memory of this process")
    reserved = _RESERVED_BYTES + (threads + 2) * _RESERVED_BYTES_PER_THREAD
    if mapped:
        _lower(resource.RLIMIT_AS, int(shown["VmSize"]) * 1024 + more_bytes + reserved)
    _lower(resource.RLIMIT_MEMLOCK, 0)
    return _lower(resource.RLIMIT_DATA, int(shown["VmData"]) * 1024 + more_bytes)


def limit_files(file_bytes: int, most_files: int) -> None:
    """Bound how long a file of this process gets, and how many it has open; no message queues.

    Raises:
        OSError: the system has no such limits.
    """
    if sys.platform == "win32":
        raise OSError("Windows has no such limits")
    import resource

    _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_NOFILE, most_files)
    if sys.platform == "linux":
        _lower(resource.RLIMIT_MSGQUEUE, 0)


def limit_threads(threads: int, *, apart: bool) -> int:
    """Bound the threads of this process; returns the limit of its user's processes.

    RLIMIT_NPROC counts the threads of all processes of the user, so those that there are now are
    added, and a margin. `apart`: in a user namespace of its own this process is counted alone, so
    that the limit is exact.

    Raises:
        OSError: the system has no such limit, or this is root, whom it does not bind, or processes
            of this user are hidden from us; nothing was limited then.
    """
    if sys.platform != "linux":
        raise OSError("only Linux's count of threads can be limited for one process")
    if os.geteuid() == 0:
        raise OSError("no number of processes is too high for root: run as another user")
    import resource

    limit = threads
    if not apart:
        limit += _MORE_PROCESSES
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                with suppress(OSError):  # it has ended
                    tasks = os.stat(f"{entry.path}/task")  # noqa: PTH116 - a thousand of them
                    limit += (tasks.st_nlink - 2) * (tasks.st_uid == os.getuid())
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))
    try:
        child = os.fork()  # a thread that has ended would still be seen for a moment
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
        raise OSError("this user has more processes than are shown to us") from error
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return _lower(resource.RLIMIT_NPROC, limit)


def _lower(limit: int, value: int) -> int:
    """Set a limit of this process for good, but never above what it is; return it."""
    import resource

    _, hard = resource.getrlimit(limit)
    lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (lower, lower))
    return lower
