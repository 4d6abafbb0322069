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
    """An event came that has no meaning in this state: a defect of the agent."""


class AssignmentState(StrEnum):
    """Where an assignment stands on this host."""

    RECEIVED = "received"
    FETCHED = "fetched"
    RUNNING = "running"
    COMPUTED = "computed"
    REPORTED = "reported"
    """The request that carries its report is written; its answer is not."""
    UPLOADING = "uploading"
    DONE = "done"
    FAILED = "failed"
    """Its failure is to be reported: the unit will be given back."""
    GIVEN_BACK = "given_back"
    REFUSED = "refused"
    LATE = "late"


class AssignmentEvent(StrEnum):
    """What happens to an assignment."""

    BLOBS_READY = "blobs_ready"
    STARTED = "started"
    FINISHED = "finished"
    GAVE_UP = "gave_up"
    RESTARTED = "restarted"
    """The process began anew: work on the unit goes on from its last checkpoint."""
    REQUEST_WRITTEN = "request_written"
    REQUEST_DROPPED = "request_dropped"
    """The request that carried the report is too old to be sent again; the next carries it."""
    RECEIPT_STORED = "receipt_stored"
    RECEIPT_GIVEN_BACK = "receipt_given_back"
    RECEIPT_UPLOAD = "receipt_upload"
    RECEIPT_REFUSED = "receipt_refused"
    UPLOAD_COMPLETE = "upload_complete"
    UPLOAD_REFUSED = "upload_refused"
    LEASE_ENDED = "lease_ended"


_S, _E = AssignmentState, AssignmentEvent

ASSIGNMENT_TABLE: Final[dict[tuple[AssignmentState, AssignmentEvent], AssignmentState]] = {
    (_S.RECEIVED, _E.BLOBS_READY): _S.FETCHED,
    (_S.RECEIVED, _E.GAVE_UP): _S.FAILED,
    (_S.RECEIVED, _E.LEASE_ENDED): _S.LATE,
    (_S.RECEIVED, _E.RESTARTED): _S.RECEIVED,
    (_S.FETCHED, _E.STARTED): _S.RUNNING,
    (_S.FETCHED, _E.GAVE_UP): _S.FAILED,
    (_S.FETCHED, _E.LEASE_ENDED): _S.LATE,
    (_S.FETCHED, _E.RESTARTED): _S.RECEIVED,
    (_S.RUNNING, _E.FINISHED): _S.COMPUTED,
    (_S.RUNNING, _E.GAVE_UP): _S.FAILED,
    (_S.RUNNING, _E.LEASE_ENDED): _S.LATE,
    (_S.RUNNING, _E.RESTARTED): _S.RECEIVED,
    (_S.COMPUTED, _E.REQUEST_WRITTEN): _S.REPORTED,
    (_S.COMPUTED, _E.GAVE_UP): _S.FAILED,
    (_S.COMPUTED, _E.LEASE_ENDED): _S.LATE,
    (_S.COMPUTED, _E.RESTARTED): _S.COMPUTED,
    (_S.FAILED, _E.REQUEST_WRITTEN): _S.REPORTED,
    (_S.FAILED, _E.LEASE_ENDED): _S.GIVEN_BACK,
    (_S.FAILED, _E.RESTARTED): _S.FAILED,
    (_S.REPORTED, _E.RECEIPT_STORED): _S.DONE,
    (_S.REPORTED, _E.RECEIPT_GIVEN_BACK): _S.GIVEN_BACK,
    (_S.REPORTED, _E.RECEIPT_UPLOAD): _S.UPLOADING,
    (_S.REPORTED, _E.RECEIPT_REFUSED): _S.REFUSED,
    (_S.REPORTED, _E.REQUEST_DROPPED): _S.COMPUTED,
    (_S.REPORTED, _E.LEASE_ENDED): _S.LATE,
    (_S.REPORTED, _E.RESTARTED): _S.REPORTED,
    (_S.UPLOADING, _E.UPLOAD_COMPLETE): _S.DONE,
    (_S.UPLOADING, _E.UPLOAD_REFUSED): _S.REFUSED,
    (_S.UPLOADING, _E.LEASE_ENDED): _S.LATE,
    (_S.UPLOADING, _E.RESTARTED): _S.UPLOADING,
}

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
            f"An assignment that is {state.value} cannot take {event.value}; please report this."
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

    `next_look_at`: seconds since 1970 when it will be looked at again; None: on the next event.
    """

    activity: Activity
    sentence: Sentence
    next_look_at: float | None = None
