"""The states of an assignment, as a table. What is not in the table cannot happen.

    unsent ──issued──> leased ──reported──────────────────────> reported ──agreed─────> valid
      │                 ├──committed──> uploading ──reported──────┘ ├───disagreed──> invalid
      └─cancelled       ├──failed──> failed                         └───set_aside──> late
                        └──expired──> expired ──reported, committed──> (taken after all)
                                         └─cancelled: the unit became one of another chunk

An unusable result is `disagreed` at once; a `valid` one when a later result refutes it, or it is
`withdrawn` because its host was convicted elsewhere. A trusted host's word `pardons`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ASSIGNMENT_MOVES",
    "AssignmentEvent",
    "AssignmentState",
    "next_assignment_state",
]


class AssignmentState(StrEnum):
    """How far an assignment has come."""

    UNSENT = "unsent"
    LEASED = "leased"
    UPLOADING = "uploading"
    """The host has committed to a digest; its bytes are being uploaded."""
    REPORTED = "reported"
    """The result is complete and has no verdict yet."""
    VALID = "valid"
    INVALID = "invalid"
    LATE = "late"
    """No other host confirmed it in time; it counts neither for nor against the host."""
    EXPIRED = "expired"
    FAILED = "failed"
    """The host reported that it could not compute it."""
    CANCELLED = "cancelled"


class AssignmentEvent(StrEnum):
    """What can happen to an assignment."""

    ISSUED = "issued"
    COMMITTED = "committed"
    REPORTED = "reported"
    AGREED = "agreed"
    DISAGREED = "disagreed"
    SET_ASIDE = "set_aside"
    WITHDRAWN = "withdrawn"
    PARDONED = "pardoned"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S, _E = AssignmentState, AssignmentEvent

ASSIGNMENT_MOVES: Final[Mapping[tuple[AssignmentState, AssignmentEvent], AssignmentState]] = {
    (_S.UNSENT, _E.ISSUED): _S.LEASED,
    (_S.UNSENT, _E.CANCELLED): _S.CANCELLED,
    (_S.LEASED, _E.COMMITTED): _S.UPLOADING,
    (_S.LEASED, _E.REPORTED): _S.REPORTED,
    (_S.LEASED, _E.EXPIRED): _S.EXPIRED,
    (_S.LEASED, _E.FAILED): _S.FAILED,
    (_S.LEASED, _E.DISAGREED): _S.INVALID,
    (_S.LEASED, _E.CANCELLED): _S.CANCELLED,
    (_S.UPLOADING, _E.REPORTED): _S.REPORTED,
    (_S.UPLOADING, _E.EXPIRED): _S.EXPIRED,
    (_S.UPLOADING, _E.DISAGREED): _S.INVALID,
    (_S.UPLOADING, _E.CANCELLED): _S.CANCELLED,
    (_S.REPORTED, _E.AGREED): _S.VALID,
    (_S.REPORTED, _E.DISAGREED): _S.INVALID,
    (_S.REPORTED, _E.SET_ASIDE): _S.LATE,
    (_S.EXPIRED, _E.COMMITTED): _S.UPLOADING,
    (_S.EXPIRED, _E.REPORTED): _S.REPORTED,
    (_S.EXPIRED, _E.DISAGREED): _S.INVALID,
    (_S.EXPIRED, _E.CANCELLED): _S.CANCELLED,
    (_S.VALID, _E.DISAGREED): _S.INVALID,
    (_S.VALID, _E.WITHDRAWN): _S.LATE,
    (_S.INVALID, _E.PARDONED): _S.VALID,
}


def next_assignment_state(state: AssignmentState, event: AssignmentEvent) -> AssignmentState:
    """Return the state after `event`.

    Raises:
        KeyError: the event cannot happen in that state: a bug in the caller.
    """
    return ASSIGNMENT_MOVES[state, event]
