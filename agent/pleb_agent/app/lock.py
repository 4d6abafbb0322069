"""One process for each home: a lock that the system releases when its holder dies."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["HomeInUseError", "hold_lock"]


class HomeInUseError(PlebError):
    """Another process uses the home."""

    exit_code = 6


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock file inside the block; it carries the holder's process id.

    Raises:
        HomeInUseError: another living process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # far behind the process id
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = path.read_text("ascii", errors="replace").strip()
        raise HomeInUseError(
            f"Another agent (process {holder or 'unknown'}) uses {path.parent}: stop it with "
            "`pleb-agent stop`, or take another --home."
        ) from error
