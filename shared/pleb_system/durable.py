"""Files that survive a crash: written beside their place, synced, renamed, the folder synced."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "create_private",
    "remove_private",
    "rename_durably",
    "sync_directory",
    "write_durably",
    "write_in_place",
]


def write_durably(
    path: Path, *parts: bytes | memoryview, private: bool = False, shared: bool = False
) -> None:
    """Write `parts` as the file `path`; a crash at any point leaves the old or the new file.

    Args:
        path: the file; its folder exists.
        parts: its content, in order.
        private: only this user can read it, at any moment.
        shared: several processes may write this file at once, so each writes beside it under a
            name of its own, which begins with a dot.

    Raises:
        OSError: no room, no permission; nothing is left beside the file.
    """
    name = f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}" if shared else f"{path.name}.part"
    beside = path.with_name(name)
    if private:
        beside.unlink(missing_ok=True)
        beside.touch(0o600, exist_ok=False)
    try:
        with beside.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())  # before the rename: the name must never show empty bytes
        rename_durably(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def write_in_place(path: Path, *parts: bytes | memoryview) -> None:
    """Replace the content of a file that exists, where a process may make none.

    A crash in between leaves anything, so the content must show whether it is whole.

    Raises:
        OSError: there is no such file, or no room.
    """
    with path.open("r+b") as file:
        file.truncate()
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """Write a new file that only this user can read, synced; a crash leaves all of it or nothing.

    It is written beside its place and then linked there, since a link, unlike a rename, never
    replaces a file. Where the file system has no links (FAT, some network drives) the name is
    claimed first: there, a crash can leave an empty file.

    Raises:
        FileExistsError: there is one already; it is left alone.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        _write_new(beside, content)
        try:
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:
            _write_new(path, content)
    finally:
        beside.unlink(missing_ok=True)
    sync_directory(path.parent)


def remove_private(path: Path) -> None:
    """Delete a file of `create_private`, and what a crash while it was made has left beside it."""
    for beside in path.parent.glob(f".{path.name}.*"):
        beside.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def rename_durably(source: Path, target: Path) -> None:
    """Give a synced file its final name, and return once the name is on the disk too."""
    source.replace(target)
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Write a folder's names to the disk."""
    if os.name == "nt":  # NTFS journals renames; a folder cannot be opened for syncing
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
