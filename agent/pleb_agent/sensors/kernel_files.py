"""Small text files of the kernel (sysfs, procfs): read often, so kept open; may fail at any time.

A device may vanish or answer with an error between two reads. That is no fault of the agent: the
value is then not known: `None` here, and the caller decides.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["KeptFile", "read_number", "read_word", "sub_folders"]

_MOST_BYTES: Final = 4096


def read_word(path: Path) -> str | None:
    """Return the file's text without the line's end; None: there is none to read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(descriptor, _MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_number(path: Path, read: Callable[[Path], str | None] = read_word) -> int | None:
    """Return the whole number in the file; None: there is none, or something else."""
    word = read(path)
    try:
        return None if word is None else int(word)
    except ValueError:
        return None


def sub_folders(folder: Path) -> list[Path] | None:
    """Return the entries in order of their names; None: there is no such folder."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return None


class KeptFile:
    """A file that is read from its beginning again and again; dropping it closes it."""

    def __init__(self, path: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._descriptor: int | None = None

    def read(self) -> bytes | None:
        """Return its contents now; None: it cannot be read (the next call opens it again)."""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._descriptor, self._most_bytes, 0)
        except OSError:
            self.close()
            return None

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        """A sensor that is replaced, or made for one read, must not keep descriptors open."""
        self.close()
