"""Lock files that the system releases when their holder ends, however it ends."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pleb_shared.errors import PlebError
from pleb_system.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HomeInUseError", "hold_lock", "try_lock"]

_FAR_BEHIND = 1 << 20
"""Windows locks bytes, not files, and refuses to read them: this one is behind the process id."""


class HomeInUseError(PlebError):
    """Another process uses the home."""

    exit_code = ExitCode.HOME_IN_USE


@contextmanager
def hold_lock(path: os.PathLike[str], *, holder: str, remedy: str) -> Iterator[None]:
    """Hold the lock file inside the block; it contains the holder's process id.

    Args:
        path: the file, in the home that it protects.
        holder: which program takes it, for the error of the next one.
        remedy: what that person can do.

    Raises:
        HomeInUseError: another living process holds it.
    """
    descriptor = try_lock(path)
    if descriptor is None:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            pid = file.read().strip() or "unknown"
        folder = os.path.dirname(path)  # noqa: PTH120 - the tray has no pathlib
        raise HomeInUseError(
            f"Another {holder} (process {pid}) uses {folder}: {remedy}, or give another --home."
        )
    try:
        yield
    finally:
        os.close(descriptor)


def try_lock(path: os.PathLike[str] | str) -> int | None:
    """Return the descriptor that holds the lock until it is closed; None: another holds it.

    Raises:
        OSError: the file cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a pipe or a device is in its place", os.fspath(path))
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _FAR_BEHIND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
