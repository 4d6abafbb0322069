"""What every sensor is: one question, one answer, never a guess."""

from __future__ import annotations

from typing import Protocol, TypeVar

__all__ = ["Sensor", "WorkerPid"]

from collections.abc import Callable

T_co = TypeVar("T_co", covariant=True)

WorkerPid = Callable[[], int | None]
"""The worker's process id now; None while there is none."""


class Sensor(Protocol[T_co]):
    """Reads one thing of the machine."""

    def read(self) -> T_co:
        """Return what holds now; `None` or an unknown kind where that cannot be told.

        May block; the board gives it a deadline.
        """
