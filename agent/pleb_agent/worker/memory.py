"""How much memory this process has held at most."""

from __future__ import annotations

import sys

import psutil

__all__ = ["peak_resident_bytes"]


def peak_resident_bytes() -> int:
    """Return the highest resident memory of this process so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
