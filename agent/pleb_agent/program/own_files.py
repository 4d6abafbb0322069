"""Notices that a package manager replaced or removed the files that this process runs from.

A frozen build reads its modules from its binary when they are first imported, so a process that
outlives an upgrade of its package breaks sooner or later: it should restart from the new one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn

from pleb_agent.program.command import fresh_environment, is_frozen, stable_program

__all__ = ["Fate", "OwnFiles", "start_again"]


class Fate(Enum):
    """What happened to the program's file."""

    SAME = "same"
    REPLACED = "replaced"
    REMOVED = "removed"


@dataclass(frozen=True)
class OwnFiles:
    """The binary as it was when this process started: device, inode, time and size."""

    program: Path
    mark: tuple[int, int, int, int]

    @classmethod
    def at_start(cls) -> OwnFiles | None:
        """Return the mark of this process's binary; None from source, where nothing is checked."""
        if not is_frozen():
            return None
        program = Path(sys.executable)
        return cls(program, _mark(program))

    def fate(self) -> Fate:
        """Return what happened to it; costs one system call."""
        try:
            return Fate.SAME if _mark(self.program) == self.mark else Fate.REPLACED
        except FileNotFoundError:
            return Fate.REMOVED


def start_again(arguments: list[str]) -> NoReturn:
    """Replace this process by the installed program, with these arguments (POSIX)."""
    command = [*stable_program(), *arguments]
    os.execve(command[0], command, fresh_environment())  # noqa: S606


def _mark(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
