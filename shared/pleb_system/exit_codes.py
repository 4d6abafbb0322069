"""What an exit code means: the same for all three programs (docs/exit-codes.md)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["MEANINGS", "ExitCode"]


class ExitCode(IntEnum):
    """How a command ended. Errors carry theirs as `exit_code`."""

    DONE = 0
    ERROR = 1
    WRONG_INPUT = 2
    NOT_TRUSTED = 3
    REFUSED = 4
    UNREACHABLE = 5
    HOME_IN_USE = 6
    NOT_RUNNING = 7
    FAULT_FOUND = 8
    CHILD_FAILED = 9
    INTERRUPTED = 130
    """128 and SIGINT's number, as shells count."""


MEANINGS: Final = {
    ExitCode.DONE: "done",
    ExitCode.ERROR: "error",
    ExitCode.WRONG_INPUT: "wrong argument, file or home",
    ExitCode.NOT_TRUSTED: "not trusted",
    ExitCode.REFUSED: "refused by the coordinator",
    ExitCode.UNREACHABLE: "coordinator unreachable",
    ExitCode.HOME_IN_USE: "home in use",
    ExitCode.NOT_RUNNING: "agent not running",
    ExitCode.FAULT_FOUND: "a check found a fault",
    ExitCode.CHILD_FAILED: "a process that was started failed",
    ExitCode.INTERRUPTED: "interrupted",
}
