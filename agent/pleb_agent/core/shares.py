"""Which project's turn is next: computing time in proportion to the user's shares.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each project has spent so much virtual time,
which is its computing time divided by its weight, and the one that has spent least goes first.
Virtual time stands where the last turn began. Whoever comes new or back begins there, so that
nobody hoards turns while it has no work; a little is kept for a project that was without a unit
only for moments. All of it is bounded, so that what was long ago weighs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["USUAL_SHARE", "Ledger", "begin", "charge", "choose", "forget"]

USUAL_SHARE: Final = 100
"""The weight of a project that the user says nothing about; virtual seconds count for it."""
_MOST_BEHIND_SECONDS: Final = 600.0
_MOST_AHEAD_SECONDS: Final = 86_400.0


class Ledger(msgspec.Struct, frozen=True):
    """Virtual seconds: where time stands, and what each project (by its number) has spent."""

    stands_at: float = 0.0
    spent: dict[int, float] = {}

    def of(self, project: int) -> float:
        """Return what a project has spent, within the bounds; a new one begins now."""
        spent = self.spent.get(project, self.stands_at)
        lowest = self.stands_at - _MOST_BEHIND_SECONDS
        return min(max(spent, lowest), self.stands_at + _MOST_AHEAD_SECONDS)


def choose(ledger: Ledger, due: Iterable[int]) -> int:
    """Return the project that has spent least of those that are due; of equals the first."""
    return min(due, key=ledger.of)


def begin(ledger: Ledger, project: int) -> Ledger:
    """Return the ledger as the project's turn begins: time stands there now.

    What lies out of bounds is brought to them for good.
    """
    spent = {number: ledger.of(number) for number in (*ledger.spent, project)}
    return Ledger(max(ledger.stands_at, spent[project]), spent)


def charge(ledger: Ledger, project: int, compute_seconds: float, share: int) -> Ledger:
    """Return the ledger after so much computing for a project of this weight."""
    cost = compute_seconds * USUAL_SHARE / share
    return Ledger(ledger.stands_at, {**ledger.spent, project: ledger.of(project) + cost})


def forget(ledger: Ledger, project: int) -> Ledger:
    """Return the ledger without a project that was left."""
    rest = {number: spent for number, spent in ledger.spent.items() if number != project}
    return Ledger(ledger.stands_at, rest)
