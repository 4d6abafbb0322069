"""durations: how long work should take: units their host, rounds their project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment import expected_seconds
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.fitting import usual_seconds
from pleb_coordinator.core.planning import YOUNG_VERSIONS

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Assignment, Purpose, UnitRow
    from pleb_coordinator.steps import RequestContext

__all__ = ["seconds_in_hand", "unit_seconds", "usual_round_seconds"]

_USUAL_ROUNDS: Final = 24
"""The last rounds, whose lengths are usual."""


def unit_seconds(context: RequestContext, unit: UnitRow) -> float | None:
    """Return how long the host should need for the unit; None: its speed is not known yet."""
    project = context.project
    return expected_seconds(unit, context.host, project.metadata, project.facts)


def seconds_in_hand(context: RequestContext, purpose: Purpose | None = None) -> float:
    """Return how long the host should still compute what it has in hand, or that purpose's part."""
    return sum(
        _seconds_left(context, assignment, unit)
        for assignment, unit in context.in_hand
        if purpose in (None, assignment.purpose)
    )


def _seconds_left(context: RequestContext, assignment: Assignment, unit: UnitRow) -> float:
    if assignment.state is AssignmentState.UPLOADING:
        return 0.0
    since = context.now - (assignment.issued_at or context.now)
    return max(0.0, (unit_seconds(context, unit) or 0.0) - since)


def usual_round_seconds(context: RequestContext) -> float:
    """Return how long the project's rounds usually take; infinity: it has made too few."""
    project = context.project
    place = (project.id, project.epoch, project.version)
    since = max(YOUNG_VERSIONS, project.version - _USUAL_ROUNDS)
    return usual_seconds(context.tx.rounds.lengths(*place, since))
