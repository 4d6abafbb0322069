"""Opening files that a worker may have made: regular ones in their own directory, nothing else.

The worker may write where its jobs are, and an attacker in it may leave there a link to a
file of the user's, or a pipe that is never filled. The agent, which may read and write
everything, goes through here, so that it is never led elsewhere and never made to wait.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "create_plain",
    "is_being_written",
    "keep_plain",
    "new_plain",
    "open_plain",
    "own_directory",
    "read_plain",
    "remove_plain",
]

_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


def open_plain(path: Path) -> IO[bytes]:
    """Open a regular file for reading; neither it nor its directory may be a link.

    Raises:
        OSError: it is not there, or it is something else.
    """
    return os.fdopen(_descriptor(path, os.O_RDONLY), "rb")


def read_plain(path: Path, size_bytes: int) -> bytes:
    """Return the file's bytes, which must be exactly so many.

    Raises:
        OSError: as `open_plain`, or it has another size.
    """
    with open_plain(path) as file:
        data = file.read(size_bytes + 1)
    if len(data) != size_bytes:
        raise OSError(errno.EINVAL, f"it does not have {size_bytes} bytes", path.name)
    return data


def create_plain(path: Path, data: bytes) -> None:
    """Write a new file in the place of whatever had the name.

    Raises:
        OSError: it cannot be written, or its directory is a link.
    """
    with new_plain(path) as file:
        file.write(data)


def new_plain(path: Path) -> IO[bytes]:
    """Open a new file for writing in the place of whatever had the name.

    Raises:
        OSError: it cannot be made, or its directory is a link.
    """
    remove_plain(path)
    return os.fdopen(_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def keep_plain(path: Path) -> None:
    """Let a regular file be there: the one that is, or an empty new one in another thing's place.

    Raises:
        OSError: it cannot be made, or its directory is a link.
    """
    try:
        open_plain(path).close()
    except OSError:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        new_plain(path).close()


def is_being_written(path: Path) -> bool:
    """Whether a process has the file open for writing, and could fill it after its deletion.

    Linux alone knows: it grants a lease for reading only where there is no writer (fcntl(2)).
    """
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _NO_LINK | _NO_WAIT)
    except OSError:
        return False
    try:
        # One who opens it meanwhile would have us signalled, by a signal that ends a process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:  # other errors: this file system has no leases
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False


def remove_plain(path: Path) -> None:
    """Delete what has this name, if anything has; a link goes, and not what it leads to.

    Raises:
        OSError: it cannot be deleted, or its directory is a link.
    """
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, "a link is in its place", path.parent.name)
    if os.unlink not in os.supports_dir_fd:
        path.unlink(missing_ok=True)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=directory)
    finally:
        os.close(directory)


def own_directory(path: Path) -> None:
    """Make the directory unless it is there; a link or a file in its place is deleted.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_symlink() or path.is_file():
        path.unlink()
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


def _descriptor(path: Path, flags: int) -> int:
    if path.parent.is_symlink() or path.is_symlink():  # where the system has no O_NOFOLLOW
        raise OSError(errno.ELOOP, "a link is in its place", path.name)
    if os.open not in os.supports_dir_fd:
        return _regular(os.open(path, flags | _BINARY, 0o600), path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)
    try:
        descriptor = os.open(path.name, flags | _NO_LINK | _NO_WAIT, 0o600, dir_fd=directory)
    finally:
        os.close(directory)
    return _regular(descriptor, path)


def _regular(descriptor: int, path: Path) -> int:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file", path.name)
