"""Files that are whole or not there: written beside, synced, renamed, the directory synced."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sync_directory", "write_durably"]


def write_durably(path: Path, *parts: bytes | memoryview, private: bool = False) -> None:
    """Write `parts` as the file `path` so that a crash at any point leaves the old or the new.

    Order matters: the bytes reach the disk before the name does, and the name before we return.
    `private`: at no time can anybody but this user read it.
    """
    beside = path.with_name(path.name + ".part")
    if private:
        beside.unlink(missing_ok=True)
        beside.touch(0o600, exist_ok=False)
    with beside.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Let the names in a directory reach the disk."""
    if os.name == "nt":  # NTFS journals renames; a directory cannot be opened for syncing
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
