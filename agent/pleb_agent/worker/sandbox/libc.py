"""Linux's system calls through ctypes, for what Python has no function for."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import Final

__all__ = ["ARCHITECTURE", "mount", "prctl", "syscall"]

ARCHITECTURE: Final = {"amd64": "x86_64", "arm64": "aarch64"}.get(
    platform.machine().lower(), platform.machine().lower()
)
"""The machine's name as Linux spells it: x86_64, aarch64."""

_OTHER_SYSTEM: Final = "only Linux has such system calls"
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def syscall(number: int, *arguments: int | bytes | ctypes._Pointer[ctypes.Structure] | None) -> int:
    """Return the answer of a system call.

    Raises:
        OSError: it failed, with its errno.
    """
    if _LIBC is None:
        raise OSError(_OTHER_SYSTEM)
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_LIBC.syscall(ctypes.c_long(number), *words))


def prctl(option: int, *arguments: int) -> int:
    """Change how the kernel treats this process; returns the answer.

    Raises:
        OSError: it failed, with its errno.
    """
    if _LIBC is None:
        raise OSError(_OTHER_SYSTEM)
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_LIBC.prctl(ctypes.c_int(option), *words))


def mount(source: str, place: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system, or change a mount (mount(2)).

    Raises:
        OSError: it failed, with its errno.
    """
    if _LIBC is None:
        raise OSError(_OTHER_SYSTEM)
    names = [os.fsencode(word) for word in (source, place, kind)]
    _checked(_LIBC.mount(*names, ctypes.c_ulong(flags), os.fsencode(options)))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
