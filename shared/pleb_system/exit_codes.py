"""What an exit code means: the same for all three programs (docs/exit-codes.md)."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """How a command ended, with its `meaning`. Errors carry theirs as `exit_code`."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Self:
        """Return the member of this number."""
        code = int.__new__(cls, number)
        code._value_ = number
        code.meaning = meaning
        return code

    DONE = 0, "done"
    ERROR = 1, "error"
    WRONG_INPUT = 2, "wrong argument, file or home"
    NOT_TRUSTED = 3, "not trusted"
    REFUSED = 4, "refused by the coordinator"
    UNREACHABLE = 5, "coordinator unreachable"
    HOME_IN_USE = 6, "home in use"
    NOT_RUNNING = 7, "agent not running"
    FAULT_FOUND = 8, "a check found a fault"
    CHILD_FAILED = 9, "a process that was started failed"
    INTERRUPTED = 130, "interrupted"
    """128 and SIGINT's number, as shells count."""
