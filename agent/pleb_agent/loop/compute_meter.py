"""How much was computed, from the progress of units that are put away, resumed or fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pleb_agent.worker.job import Progress

__all__ = ["ComputeMeter"]


class ComputeMeter:
    """Turns the running totals of `Progress` into seconds that were not counted yet."""

    def __init__(self) -> None:
        self._counted: dict[int, float] = {}

    def begin(self, number: int, *, resumed: bool) -> None:
        """A unit begins. `resumed`: some of it may have been computed by an earlier process.

        Then the first total that comes tells where it stands, and counts nothing itself.
        """
        if not resumed:
            self._counted[number] = 0.0

    def add(self, number: int, progress: Progress) -> float:
        """Return the computing seconds since the last call.

        A total that fell (the worker died and goes on from an older checkpoint) is a new start.
        """
        total = progress.compute_seconds
        before = self._counted.get(number, total)
        self._counted[number] = total
        return max(0.0, total - before)

    def end(self, number: int) -> None:
        """The unit has ended."""
        self._counted.pop(number, None)
