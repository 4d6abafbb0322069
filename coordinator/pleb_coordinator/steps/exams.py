"""exams: units that new hosts share with one anchor, which prove them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pleb_coordinator.core.assignment import (
    exam_hosts,
    exam_pace_seconds,
    exams_to_come,
    most_exams,
    most_open_exams,
)
from pleb_coordinator.core.assignment_state import AssignmentEvent
from pleb_coordinator.core.chunks import fits, whole_steps
from pleb_coordinator.core.records import Assignment, Counting, ProjectState, Purpose, UnitRow
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps.anchor import (
    TRUSTED_SEEN_SECONDS,
    ask_anchor,
    class_of_unit,
    isolated_class,
)
from pleb_coordinator.steps.candidates import choose, keep_chunk, of_smaller_chunks
from pleb_coordinator.steps.fit import window_is_over
from pleb_coordinator.steps.leasing import lease_more

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.steps import RequestContext

__all__ = ["for_new_host", "units_kept_for_exams"]


def for_new_host(context: RequestContext) -> list[tuple[Assignment, UnitRow]]:
    """Return a unit that a new host shares with others and one anchor: see `core.counting`.

    An exam that is decided can be joined until its version is made: nobody can know its result
    before, and one anchor's work so proves all who come.
    """
    tx, project, host, now = context.tx, context.project, context.host, context.now
    metadata = project.metadata
    trusted = tx.hosts.trusted(project.id, now - TRUSTED_SEEN_SECONDS)
    most = exam_hosts(metadata.verification, project.new_hosts, trusted + project.proven_hosts)
    if project.state is ProjectState.FINISHED:
        return []
    exams = tx.units.exams(project.id, project.epoch, project.version)
    undecided = [unit for unit in exams if unit.state is UnitState.OPEN]
    decided = [
        unit for unit in exams if unit not in undecided and unit.counting is not Counting.FLEET
    ]
    if window_is_over(context):
        return []
    unit = None
    if units_kept_for_exams(context):
        unit = _open_exam(context, len(undecided), trusted)
    if unit is None:
        unit = _joinable(context, undecided, most)
    if unit is None:
        unit = _open_exam(context, len(undecided), trusted) or _joinable(context, decided, most)
    if unit is None:
        return []
    seconds = project.median_step_seconds * whole_steps(unit, project.facts)
    context.changes.paced_until = now + exam_pace_seconds(seconds, host.setbacks)
    return lease_more(context, [unit], Purpose.EXAM)


def units_kept_for_exams(context: RequestContext) -> int:
    """Return how many units of the round are still to become exams."""
    project = context.project
    opened = context.tx.units.count_exams(project.id, project.epoch, project.version)
    return exams_to_come(project.metadata, project.new_hosts, project.proven_hosts, opened)


def _joinable(context: RequestContext, exams: Sequence[UnitRow], most: int) -> UnitRow | None:
    """Return an exam that the host may share, drawn by lot; None: there is none."""
    tx, host = context.tx, context.host
    isolated = isolated_class(tx, context.project.id, host.determinism_class)
    drawn = sorted(exams, key=lambda _: context.deps.random_bytes(8))
    for unit in drawn:  # the first that it may share: each costs some queries
        if (
            fits(unit, host)
            and (unit.counting is Counting.FLEET or tx.assignments.exam_hosts(unit.id) < most)
            and class_of_unit(tx, unit) == isolated
            and not tx.assignments.has_had(unit.id, host)
        ):
            return unit
    return None


def _open_exam(context: RequestContext, open_now: int, trusted: int) -> UnitRow | None:
    """Return a unit that becomes an exam, with its anchor asked; None: not now."""
    tx, deps, project = context.tx, context.deps, context.project
    anchors = trusted + project.proven_hosts
    if not anchors:
        if open_now:
            return None  # the whole fleet answers one at a time
    elif open_now >= most_open_exams(trusted, project.proven_hosts) or (
        tx.units.count_exams(project.id, project.epoch, project.version)
        >= most_exams(project.metadata, project.proven_hosts)
    ):
        return None
    for assignment, chosen in choose(context, Purpose.PRIMARY, 1):
        unit = chosen
        if anchors:
            possible = [chosen, *of_smaller_chunks(context, chosen)]
            ask = partial(ask_anchor, tx, deps, project, exam=True, asking=context.host)
            anchored = next((one for one in possible if ask(one)), None)
            if anchored is None:
                return None
            unit = anchored
        tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
        keep_chunk(context, unit)
        counting = Counting.EXAM if anchors else Counting.FLEET
        tx.units.open_exam(unit.id, counting, context.now)
        return unit
    return None
