"""Resource limits and the ties to the parent: what holds without any security module."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Final

from pleb_agent.worker.sandbox.libc import prctl

__all__ = ["die_with_parent", "die_with_starter", "limit_memory", "no_core_dumps"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4


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


def limit_memory(more_bytes: int) -> int:
    """Let this process take `more_bytes` of writable memory beyond what it has; returns the sum.

    RLIMIT_DATA counts private writable pages (heap, anonymous maps, stacks) and not the
    gigabytes of address space that torch only reserves, which RLIMIT_AS would count.

    Raises:
        OSError: the system has no such limit.
    """
    if sys.platform != "linux":
        raise OSError("only Linux counts a process's writable memory against a limit")
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii")
    shown = re.search(r"^VmData:\s*(\d+) kB", status, re.MULTILINE)  # what RLIMIT_DATA counts
    if shown is None:
        raise OSError("/proc/self/status does not show the memory of this process")
    limit = int(shown[1]) * 1024 + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return limit
