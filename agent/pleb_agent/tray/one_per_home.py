"""One tray for each home: a lock that the system releases when its holder dies."""

from __future__ import annotations

import os
import sys

__all__ = ["take_place"]


def take_place(home: str) -> int | None:
    """Return the descriptor that holds the home's place, to be kept open; None: it is taken.

    Raises:
        OSError: the home cannot be written.
    """
    path = os.path.join(home, "tray.lock")  # noqa: PTH118 - pathlib takes 1 MB
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
