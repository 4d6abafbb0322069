"""Whether a process that wrote down its number still lives, as a process of this user.

What it wrote about itself, for instance the port where it listens, is nobody's after its end: on
a machine with several users another one may have taken that port.
"""

from __future__ import annotations

import os
import sys

__all__ = ["is_alive"]


def is_alive(pid: int) -> bool:
    """Whether this user has a process with this number; one of another user is none of ours."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        import psutil

        return psutil.pid_exists(pid)
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
