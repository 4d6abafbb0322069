"""How much memory this process has held at most, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

import psutil

__all__ = ["SpareMemory", "peak_resident_bytes"]

_WORTH_BYTES: Final = 64 * 2**20


class SpareMemory:
    """What the allocator keeps after a job in case it is needed again.

    glibc keeps freed blocks of up to 32 MiB in its heap. Other systems' allocators give back by
    themselves, so nothing is done there.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._warm_bytes = self._resident_bytes()

    def give_back(self) -> None:
        """Return it to the system, if this process has grown by more than 64 MiB since it began."""
        if self._resident_bytes() < self._warm_bytes + _WORTH_BYTES:
            return
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        if trim is not None:
            trim(0)

    def _resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the highest resident memory of this process so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
