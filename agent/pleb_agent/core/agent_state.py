"""State machines of an assignment and of the agent, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from pleb_agent.core.sentence import Sentence

__all__ = [
    "ASSIGNMENT_TABLE",
    "FINAL_STATES",
    "Activity",
    "AgentState",
    "AssignmentEvent",
    "AssignmentState",
    "WrongEventError",
    "next_state",
]


class WrongEventError(PlebError):
    """An event that has no meaning in this state: a defect of the agent."""


class AssignmentState(StrEnum):
    """What the journal stores of an assignment; the last four are its end, and say why."""

    RECEIVED = "received"
    """Being fetched or computed: what there is of it is a checkpoint."""
    COMPUTED = "computed"
    """Its report is ready: a result, or why the unit is given back."""
    REPORTED = "reported"
    """The request that carries its report is written; its answer is not."""
    UPLOADING = "uploading"
    DONE = "done"
    GIVEN_BACK = "given_back"
    REFUSED = "refused"
    LATE = "late"


class AssignmentEvent(StrEnum):
    """What happens to an assignment."""

    REPORT_READY = "report_ready"
    REQUEST_WRITTEN = "request_written"
    REQUEST_DROPPED = "request_dropped"
    """The request that carried the report may not be sent again; the next one carries it."""
    RECEIPT_STORED = "receipt_stored"
    RECEIPT_GIVEN_BACK = "receipt_given_back"
    RECEIPT_UPLOAD = "receipt_upload"
    RECEIPT_REFUSED = "receipt_refused"
    UPLOAD_COMPLETE = "upload_complete"
    UPLOAD_REFUSED = "upload_refused"
    LEASE_ENDED = "lease_ended"


_S, _E = AssignmentState, AssignmentEvent

ASSIGNMENT_TABLE: Final[dict[tuple[AssignmentState, AssignmentEvent], AssignmentState]] = {
    (_S.RECEIVED, _E.REPORT_READY): _S.COMPUTED,
    (_S.RECEIVED, _E.LEASE_ENDED): _S.LATE,
    # A delta that cannot be read any more: a failure takes the place of the result.
    (_S.COMPUTED, _E.REPORT_READY): _S.COMPUTED,
    (_S.COMPUTED, _E.REQUEST_WRITTEN): _S.REPORTED,
    (_S.REPORTED, _E.REQUEST_DROPPED): _S.COMPUTED,
    (_S.REPORTED, _E.RECEIPT_STORED): _S.DONE,
    (_S.REPORTED, _E.RECEIPT_GIVEN_BACK): _S.GIVEN_BACK,
    (_S.REPORTED, _E.RECEIPT_UPLOAD): _S.UPLOADING,
    (_S.REPORTED, _E.RECEIPT_REFUSED): _S.REFUSED,
    (_S.REPORTED, _E.LEASE_ENDED): _S.LATE,
    (_S.UPLOADING, _E.UPLOAD_COMPLETE): _S.DONE,
    (_S.UPLOADING, _E.UPLOAD_REFUSED): _S.REFUSED,
    (_S.UPLOADING, _E.LEASE_ENDED): _S.LATE,
}
"""There is no row for what nothing does: a computed unit whose lease has ended is still reported,
since only the coordinator knows whether it is too late."""

FINAL_STATES: Final = frozenset({_S.DONE, _S.GIVEN_BACK, _S.REFUSED, _S.LATE})


def next_state(state: AssignmentState, event: AssignmentEvent) -> AssignmentState:
    """Return the state that follows.

    Raises:
        WrongEventError: the table has no such pair.
    """
    try:
        return ASSIGNMENT_TABLE[state, event]
    except KeyError:
        raise WrongEventError(
            f"An assignment in state {state.value} cannot take {event.value}; please report this."
        ) from None


class Activity(StrEnum):
    """What the agent as a whole does."""

    IDLE = "idle"
    WORKING = "working"
    PAUSED = "paused"
    OFFLINE = "offline"
    PROBLEM = "problem"


@dataclass(frozen=True)
class AgentState:
    """The agent's activity and the one sentence that explains it.

    `next_look_at`: seconds since 1970 of the next look; None: on the next event.
    """

    activity: Activity
    sentence: Sentence
    next_look_at: float | None = None
    project: str = ""
    """The name of the project that it is about; empty: of none."""
    why: Sentence | None = None
    """The reason alone, where the sentence names the project too."""
