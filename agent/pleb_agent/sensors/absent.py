"""A sensor for what a system does not tell."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Absent"]

T = TypeVar("T")


class Absent(Generic[T]):
    """Always says the same: that it cannot be told."""

    def __init__(self, unknown: T) -> None:
        self._unknown = unknown

    def read(self) -> T:
        """Return the unknown value."""
        return self._unknown
