"""The few words in which the agent says what it does; why is another sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import Activity
from pleb_agent.core.rules import PolicyReason
from pleb_agent.core.sentence import Sentence, say

if TYPE_CHECKING:
    from pleb_agent.core.agent_state import AgentState

__all__ = ["headline"]

_PAUSED: Final[dict[PolicyReason, Sentence]] = {
    PolicyReason.STARTING: say("Starting"),
    PolicyReason.SHUTTING_DOWN: say("The PC shuts down"),
    PolicyReason.SUSPENDING: say("The PC goes to sleep"),
    PolicyReason.DEVICE_OFF: say("Switched off"),
    PolicyReason.PAUSED_BY_USER: say("Paused by you"),
    PolicyReason.DEVICE_PAUSED: say("Paused by you"),
    PolicyReason.DISK_FULL: say("The disk is nearly full"),
    PolicyReason.MEMORY_SHORT: say("Memory is short"),
    PolicyReason.CARD_MEMORY_SHORT: say("Memory is short"),
    PolicyReason.TOO_HOT: say("The PC is too hot"),
    PolicyReason.CARD_TOO_HOT: say("The card is too hot"),
    PolicyReason.ON_BATTERY: say("On battery"),
    PolicyReason.OUTSIDE_HOURS: say("Outside your hours"),
    PolicyReason.PAUSED_BY_PROGRAM: say("Paused by your home automation"),
    PolicyReason.SIGNALS: say("Your rules say no"),
    PolicyReason.PROGRAM_RUNS: say("One of your programs is running"),
    PolicyReason.CARD_PROGRAM_RUNS: say("One of your programs is running"),
    PolicyReason.FULLSCREEN: say("A window fills the screen"),
    PolicyReason.IN_USE: say("The PC is in use"),
    PolicyReason.INPUT_UNREADABLE: say("The PC counts as in use"),
    PolicyReason.CPU_BUSY: say("Other programs are busy"),
    PolicyReason.GPU_BUSY: say("Other programs are busy"),
    PolicyReason.SETTLING: say("Resuming soon"),
}


def headline(state: AgentState, reason: PolicyReason, kind: str, title: str) -> Sentence:
    """Return what the agent does, in a few words.

    Args:
        state: of the agent, or of one device.
        reason: which rule decided, if it is paused.
        kind: of the unit that is being computed; empty: there is none.
        title: of the project that this is about; empty: of none.
    """
    match state.activity:
        case Activity.PAUSED:
            return _PAUSED.get(reason, say("Paused"))
        case Activity.WORKING:
            return _working(kind, title)
        case Activity.OFFLINE:
            named, plain = say("{project} cannot be reached", project=title), say("Not connected")
        case Activity.PROBLEM:
            named, plain = say("{project} needs you", project=title), say("Something needs you")
        case _:
            named, plain = say("Waiting for {project}", project=title), say("Getting ready")
            if state.next_look_at is not None:
                plain = say("Waiting")
    return named if title else plain


def _working(kind: str, title: str) -> Sentence:
    if not title:
        return say("Working")
    if kind == "evaluate":
        return say("Measuring {project}", project=title)
    if kind == "calibrate":
        return say("Getting to know this PC for {project}", project=title)
    return say("Training {project}", project=title) if kind else say("Working")
