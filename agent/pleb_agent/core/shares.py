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
    from collections.abc import Mapping

__all__ = ["USUAL_SHARE", "Ledger", "begin", "charge", "choose", "forget", "settle"]

USUAL_SHARE: Final = 100
"""The weight of a project that the user says nothing about; virtual seconds count for it."""
_MOST_BEHIND_SECONDS: Final = 600.0
_MOST_AHEAD_SECONDS: Final = 86_400.0


class Ledger(msgspec.Struct, frozen=True):
    """Virtual seconds: where time stands, and what each project (by its number) has spent."""

    stands_at: float = 0.0
    spent: dict[int, float] = {}

    def of(self, project: int, share: int) -> float:
        """Return what a project of this weight has spent, within bounds; a new one begins now."""
        spent = self.spent.get(project, self.stands_at)
        lowest = self.stands_at - _virtual(_MOST_BEHIND_SECONDS, share)
        return min(max(spent, lowest), self.stands_at + _virtual(_MOST_AHEAD_SECONDS, share))


def choose(ledger: Ledger, shares: Mapping[int, int]) -> int:
    """Return the project, of those with these weights, that has spent least; or the first."""
    return min(shares, key=lambda project: ledger.of(project, shares[project]))


def begin(ledger: Ledger, project: int, share: int) -> Ledger:
    """Return the ledger as the project's turn begins: time stands there now.

    What it has spent is brought within bounds for good.
    """
    began_at = ledger.of(project, share)
    stands_at = max(ledger.stands_at, began_at)
    return Ledger(stands_at, {**ledger.spent, project: began_at})


def charge(ledger: Ledger, project: int, compute_seconds: float, share: int) -> Ledger:
    """Return the ledger after so much computing for a project of this weight."""
    spent = ledger.of(project, share) + _virtual(compute_seconds, share)
    return Ledger(ledger.stands_at, {**ledger.spent, project: spent})


def settle(ledger: Ledger, project: int, share: int) -> Ledger:
    """Return the ledger as the project's turn ends: a giant unit is not held against it."""
    return Ledger(ledger.stands_at, {**ledger.spent, project: ledger.of(project, share)})


def forget(ledger: Ledger, project: int) -> Ledger:
    """Return the ledger without a project that was left."""
    rest = {number: spent for number, spent in ledger.spent.items() if number != project}
    return Ledger(ledger.stands_at, rest)


def _virtual(seconds: float, share: int) -> float:
    return seconds * USUAL_SHARE / share
