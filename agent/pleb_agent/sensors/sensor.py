"""What every sensor is: one question, one answer, never a guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["CardPid", "Sensor", "Unavailable", "WorkerPid"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

WorkerPid = Callable[[], int | None]
"""The worker's process id now; None while there is none."""


CardPid = Callable[[str], int | None]
"""The process id of the worker on the card with this name; None while there is none."""


class Sensor(Protocol[T_co]):
    """Reads one thing of the machine."""

    def read(self) -> T_co:
        """Return what holds now; `None` or an unknown kind where that cannot be known.

        May block; the scheduler gives it a deadline.
        """


class Unavailable(Generic[T]):
    """A sensor for what a system does not report: always returns the unknown value."""

    def __init__(self, unknown: T) -> None:
        self._unknown = unknown

    def read(self) -> T:
        """Return the unknown value."""
        return self._unknown
