"""Which project's turn is next: computing time in proportion to the user's shares.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each project has spent so much virtual time,
which is its computing time divided by its weight, and the one that has spent least goes first.
The virtual time is that at which the last turn began. A project that is new, or had no work for a
while, starts there, so that it saves up no turns; a little is kept for one that was without a unit
only briefly. Everything is bounded, so that what happened long ago has no weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "USUAL_SHARE",
    "Ledger",
    "begin",
    "charge",
    "choose",
    "enter",
    "forget",
    "settle",
    "share_of",
]

USUAL_SHARE: Final = 100
"""The weight of a project without a preference; for it a virtual second is a real one."""
_MOST_BEHIND_SECONDS: Final = 600.0
_MOST_AHEAD_SECONDS: Final = 86_400.0


def share_of(shares: Mapping[str, int], project: str, family: str = "", members: int = 1) -> int:
    """Return the weight of a project by the user's `shares`, which name projects and families.

    All `members` of a family together weigh as much as one project, unless the user says otherwise.
    """
    usual = shares.get(family, USUAL_SHARE) // max(1, members) if family else USUAL_SHARE
    return shares.get(project, max(1, usual))


class Ledger(msgspec.Struct, frozen=True):
    """In virtual seconds: the time, and what each project (by its number) has spent."""

    virtual_time: float = 0.0
    spent: dict[int, float] = {}

    def of(self, project: int, share: int) -> float:
        """Return what a project of this weight has spent, within bounds; a new one starts now."""
        spent = self.spent.get(project, self.virtual_time)
        lowest = self.virtual_time - _virtual(_MOST_BEHIND_SECONDS, share)
        return min(max(spent, lowest), self.virtual_time + _virtual(_MOST_AHEAD_SECONDS, share))


def choose(
    ledger: Ledger,
    shares: Mapping[int, int],
    warm: Collection[int] = (),
    patience_seconds: float = 0,
) -> int:
    """Return the project, of those with these weights, that has spent least; or the first.

    `warm`: the projects whose worker runs, one or the members of a family. They go on, in turns,
    until they are `patience_seconds` of their computing time ahead, since another one needs a new
    process.
    """

    def spent(project: int) -> float:
        share = shares[project]
        patience = _virtual(patience_seconds, share) if project in warm else 0.0
        return ledger.of(project, share) - patience

    return min(shares, key=spent)


def enter(ledger: Ledger, shares: Mapping[int, int]) -> Ledger:
    """Return the ledger with a place for each project that is due: a new one waits from now on."""
    new = {project: ledger.of(project, share) for project, share in shares.items()}
    return Ledger(ledger.virtual_time, new | ledger.spent)


def begin(ledger: Ledger, project: int, share: int) -> Ledger:
    """Return the ledger as the project's turn begins: the virtual time is its now.

    What it has spent is brought within bounds permanently.
    """
    began_at = ledger.of(project, share)
    virtual_time = max(ledger.virtual_time, began_at)
    return Ledger(virtual_time, {**ledger.spent, project: began_at})


def charge(ledger: Ledger, project: int, compute_seconds: float, share: int) -> Ledger:
    """Return the ledger after `compute_seconds` for a project of this weight."""
    spent = ledger.of(project, share) + _virtual(compute_seconds, share)
    return Ledger(ledger.virtual_time, {**ledger.spent, project: spent})


def settle(ledger: Ledger, project: int, share: int) -> Ledger:
    """Return the ledger as the project's turn ends: a huge unit counts only within bounds."""
    return Ledger(ledger.virtual_time, {**ledger.spent, project: ledger.of(project, share)})


def forget(ledger: Ledger, project: int) -> Ledger:
    """Return the ledger without a project that was left."""
    rest = {number: spent for number, spent in ledger.spent.items() if number != project}
    return Ledger(ledger.virtual_time, rest)


def _virtual(seconds: float, share: int) -> float:
    return seconds * USUAL_SHARE / share
