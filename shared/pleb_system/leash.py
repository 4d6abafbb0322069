"""Becomes another program that ends with its parent: `python -m ...leash PARENT COMMAND...`.

A parent that is killed cannot stop its children. On Linux the kernel does it: the request is
made here and outlives `exec`, so the program needs no code for it. Elsewhere this only becomes
the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["leashed"]

_PR_SET_PDEATHSIG = 1


def leashed(command: list[str]) -> list[str]:
    """Return the command line that runs `command` until this process ends."""
    return [sys.executable, "-m", "pleb_system.leash", str(os.getpid()), *command]


def main() -> None:
    """Ask for the signal, check that the parent is still there, become the program."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(0)
    os.execv(command[0], command)  # noqa: S606 - our own command line


if __name__ == "__main__":
    main()
