"""Which of the user's chosen programs run now.

A program is known by the name of its file, whatever the case of its letters; `.exe` may be left
out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import psutil

__all__ = ["ChosenPrograms", "LinuxPrograms", "PsutilPrograms", "key_of"]

ChosenPrograms = Callable[[], Collection[str]]
"""The names that the user chose, now."""
NONE: Final[frozenset[str]] = frozenset()
_MOST_COMM: Final = 15
"""The kernel cuts a name in /proc/PID/comm after so many bytes."""


def key_of(name: str) -> str:
    """Return what two ways to write a program's name have in common."""
    if "\\" in name:
        name = PureWindowsPath(name).name
    return PurePosixPath(name.strip()).name.casefold().removesuffix(".exe")


class LinuxPrograms:
    """Reads /proc: each process's name, and its file where that may be read."""

    def __init__(self, chosen: ChosenPrograms, proc: Path = Path("/proc")) -> None:
        self._chosen = chosen
        self._proc = str(proc)

    def read(self) -> frozenset[str]:
        """Return those of the chosen names that run; nothing is read where none is chosen."""
        wanted = {key_of(name): name for name in self._chosen()}
        if not wanted:
            return NONE
        running = {
            key
            for pid in os.listdir(self._proc)  # noqa: PTH208 - a Path for each entry costs more
            if pid.isdigit()
            for key in self._keys(f"{self._proc}/{pid}", wanted)
        }
        return frozenset(name for key, name in wanted.items() if key in running)

    def _keys(self, folder: str, wanted: Collection[str]) -> tuple[str, ...]:
        """Return the names of a process; none of one that ended or of the kernel's own."""
        comm = _first_bytes(f"{folder}/comm").rstrip(b"\n")
        name = comm.decode("utf-8", "replace").casefold()
        if len(comm) < _MOST_COMM and name.removesuffix(".exe") in wanted:
            return (name.removesuffix(".exe"),)
        try:
            file = os.readlink(f"{folder}/exe")  # noqa: PTH115 - as above
            return (key_of(file.removesuffix(" (deleted)")), key_of(name))
        except OSError:  # another user's, the kernel's, or gone
            return tuple(key for key in wanted if _is_cut(key, comm))


def _is_cut(key: str, comm: bytes) -> bool:
    return len(comm) == _MOST_COMM and key.encode()[:_MOST_COMM] == comm.lower()


def _first_bytes(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 256)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


class PsutilPrograms:
    """On Windows and macOS."""

    def __init__(self, chosen: ChosenPrograms) -> None:
        self._chosen = chosen

    def read(self) -> frozenset[str]:
        """Return those of the chosen names that run; nothing is read where none is chosen."""
        wanted = {key_of(name): name for name in self._chosen()}
        if not wanted:
            return NONE
        running = {key_of(process.info["name"] or "") for process in psutil.process_iter(["name"])}
        return frozenset(name for key, name in wanted.items() if key in running)
