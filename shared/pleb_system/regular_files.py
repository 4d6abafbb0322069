"""Reading files of our own in whose place anything may be: a pipe, a folder, a device, a huge file.

`open` would wait for ever at a pipe, and read a device without end.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_regular", "require_regular"]

_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the content of a regular file, or of one that a link leads to.

    Raises:
        OSError: there is none, it cannot be read, it has more bytes, or it is something else.
    """
    with open(os.open(path, os.O_RDONLY | _NO_WAIT | _BINARY), "rb") as file:  # noqa: PTH123
        _check(os.fstat(file.fileno()), path)
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has over {most_bytes:,} bytes", str(path))
    return data


def require_regular(path: Path) -> None:
    """Return if the path is free, or a regular file is there.

    Raises:
        OSError: something else is in its place.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    _check(found, path)


def _check(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, f"{_kind(found.st_mode)} is in its place", str(path))


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
