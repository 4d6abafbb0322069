"""What the agent did and why, one event at a time, for the page's history and notifications."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import AssignmentState
from pleb_agent.core.sentence import Sentence, say, say_reason
from pleb_shared.protocol.messages import UnitVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KEPT_EVENTS", "Event", "EventKind", "ended_event", "verdict_events"]

KEPT_EVENTS: Final = 2000
"""The newest of them are kept."""


class EventKind(StrEnum):
    """The kinds of events."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"
    UNIT = "unit"
    """A unit was accepted, refused, late or given back."""
    FIRST_ACCEPTED = "first_accepted"
    """The first unit of this PC that counted, of any project."""
    ATTACH = "attach"
    DETACH = "detach"
    PROBLEM = "problem"
    PREFERENCES = "preferences"
    UPDATE = "update"
    START = "start"
    END = "end"


@dataclass(frozen=True)
class Event:
    """One thing that happened. `project` is a name, empty where it concerns none.

    `at`: seconds since 1970 on this host. `id` grows; it is 0 until the journal has the event.
    """

    at: float
    kind: EventKind
    project: str
    sentence: Sentence
    id: int = 0


_ENDED: Final = {
    AssignmentState.LATE: "Unit {unit} of {project} was late: {why}",
    AssignmentState.REFUSED: "Unit {unit} of {project} was refused: {why}",
    AssignmentState.GIVEN_BACK: "Unit {unit} of {project} was given back: {why}",
}
_JUDGED: Final = {
    Verdict.VALID: "Unit {unit} of {project} was accepted.",
    Verdict.INVALID: "Unit {unit} of {project} did not count: {why}",
    Verdict.LATE: "Unit {unit} of {project} came too late to count.",
}


def ended_event(
    state: AssignmentState, project: str, assignment: int, why: str, now: float
) -> list[Event]:
    """Return the event of an assignment that ended in this state; none for one that went well."""
    if state not in _ENDED:
        return []
    reason = say(why) if why else say_reason(None)
    sentence = say(_ENDED[state], unit=assignment, project=project, why=reason)
    return [Event(now, EventKind.UNIT, project, sentence)]


def verdict_events(
    project: str, verdicts: Sequence[UnitVerdict], now: float, *, any_before: bool
) -> list[Event]:
    """Return an event for each verdict; the first unit that ever counted has its own."""
    events = []
    for verdict in verdicts:
        if verdict.verdict is Verdict.VALID and not any_before:
            any_before = True
            sentence = say(
                "The first unit of this PC was confirmed: it is part of {project} now.",
                project=project,
            )
            events.append(Event(now, EventKind.FIRST_ACCEPTED, project, sentence))
            continue
        sentence = say(
            _JUDGED[verdict.verdict],
            unit=verdict.assignment,
            project=project,
            why=say_reason(verdict.reason),
        )
        events.append(Event(now, EventKind.UNIT, project, sentence))
    return events
