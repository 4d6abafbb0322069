"""The states of a unit, as a table. What is not in the table cannot happen.

open ──decided────> valid ──applied──> applied ──refuted──> disproved
  │                   └──refuted──> open
  ├──closed─────> late ──decided──> credited ──refuted──> late
  └──cancelled──> cancelled            (a late one as well; a valid one when its epoch ends)
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UNIT_MOVES", "UnitEvent", "UnitState", "next_unit_state"]


class UnitState(StrEnum):
    """How far a unit has come."""

    OPEN = "open"
    """It needs results."""
    VALID = "valid"
    """Its result counts for the next version."""
    APPLIED = "applied"
    """Its result is in a version."""
    LATE = "late"
    """The version was made without it; results still earn credit."""
    CREDITED = "credited"
    """Decided after its version was made."""
    DISPROVED = "disproved"
    """In a version, and found wrong too late to remove the result."""
    CANCELLED = "cancelled"


class UnitEvent(StrEnum):
    """What can happen to a unit."""

    DECIDED = "decided"
    """Its results were compared and one is canonical."""
    REFUTED = "refuted"
    """An audit proved the canonical result wrong."""
    DISPUTED = "disputed"
    """A later result differs: nothing counts until it is known which is right."""
    APPLIED = "applied"
    """A version was made with it."""
    CLOSED = "closed"
    """A version was made without it."""
    CANCELLED = "cancelled"


UNIT_MOVES: Final[Mapping[tuple[UnitState, UnitEvent], UnitState]] = {
    (UnitState.OPEN, UnitEvent.DECIDED): UnitState.VALID,
    (UnitState.OPEN, UnitEvent.CLOSED): UnitState.LATE,
    (UnitState.OPEN, UnitEvent.CANCELLED): UnitState.CANCELLED,
    (UnitState.VALID, UnitEvent.APPLIED): UnitState.APPLIED,
    (UnitState.VALID, UnitEvent.REFUTED): UnitState.OPEN,
    (UnitState.VALID, UnitEvent.DISPUTED): UnitState.OPEN,
    (UnitState.VALID, UnitEvent.CANCELLED): UnitState.CANCELLED,
    (UnitState.APPLIED, UnitEvent.REFUTED): UnitState.DISPROVED,
    (UnitState.LATE, UnitEvent.DECIDED): UnitState.CREDITED,
    (UnitState.LATE, UnitEvent.CANCELLED): UnitState.CANCELLED,
    (UnitState.CREDITED, UnitEvent.REFUTED): UnitState.LATE,
    (UnitState.CREDITED, UnitEvent.DISPUTED): UnitState.LATE,
}


def next_unit_state(state: UnitState, event: UnitEvent) -> UnitState:
    """Return the state after `event`.

    Raises:
        KeyError: the event cannot happen in that state: a bug in the caller.
    """
    return UNIT_MOVES[state, event]
