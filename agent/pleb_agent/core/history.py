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

__all__ = [
    "KEPT_EVENTS",
    "OUTCOMES",
    "Event",
    "EventKind",
    "ended_event",
    "verdict_events",
]

KEPT_EVENTS: Final = 10_000
"""The newest of them are kept: three weeks of 500 units a day."""


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
    """The agent cannot continue by itself."""
    OFFLINE = "offline"
    """A coordinator cannot be reached, or is overloaded; the agent tries again."""
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
    AssignmentState.LATE: "A unit of {project} was late: {why}",
    AssignmentState.REFUSED: "A unit of {project} was refused: {why}",
    AssignmentState.GIVEN_BACK: "A unit of {project} was given back: {why}",
}
"""Their numbers on the project's page are not known: these come with a verdict."""
_JUDGED: Final = {
    Verdict.VALID: "Unit {unit} of {project} was accepted.",
    Verdict.INVALID: "Unit {unit} of {project} was refused: {why}",
    Verdict.LATE: "Unit {unit} of {project} did not count: {why}",
}
_OLDER: Final = {
    "late": "Unit {unit} of {project} was late: {why}",
    "given_back": "Unit {unit} of {project} was given back: {why}",
    "uncounted": "Unit {unit} of {project} came too late to count.",
}
"""Templates of earlier releases, which are still in journals."""
OUTCOMES: Final[dict[str, str]] = (
    {template: outcome for outcome, template in _OLDER.items()}
    | {template: state.value for state, template in _ENDED.items()}
    | {_JUDGED[Verdict.VALID]: "accepted", _JUDGED[Verdict.INVALID]: "refused"}
    | {_JUDGED[Verdict.LATE]: "uncounted"}
)
"""How a unit ended, by the template of its event: `accepted`, `refused`, `late`, `given_back` or
`uncounted`."""


def ended_event(state: AssignmentState, project: str, why: str, now: float) -> list[Event]:
    """Return the event of an assignment that ended in this state; none for one that went well."""
    if state not in _ENDED:
        return []
    reason = say(why) if why else say_reason(None)
    sentence = say(_ENDED[state], project=project, why=reason)
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
            _JUDGED[verdict.verdict], unit=verdict.unit, project=project, why=_why(verdict)
        )
        events.append(Event(now, EventKind.UNIT, project, sentence))
    return events


def _why(verdict: UnitVerdict) -> Sentence:
    """Return why a unit was judged so, with the evidence if there is some."""
    reason = say_reason(verdict.reason)
    if verdict.evidence is None:
        return reason
    return say(
        "{reason} It is {distance} from the result that counts; {tolerance} is allowed.",
        reason=reason,
        distance=f"{verdict.evidence.distance:.3g}",
        tolerance=f"{verdict.evidence.tolerance:.3g}",
    )
