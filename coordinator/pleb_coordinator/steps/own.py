"""own: units that a host trains on data of its own: one for each member and round.

Nobody else has the data, so such a unit is given to one host and compared with nothing. What bounds
a member is that its account has one result in a version, however many PCs it brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_coordinator.core.records import Assignment, ProjectState, Purpose, UnitRow
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps.fit import window_is_over
from pleb_coordinator.steps.no_work import no_work
from pleb_coordinator.store.assignments import Seeker
from pleb_shared.protocol.messages import NoWork
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from pleb_coordinator.steps import RequestContext

__all__ = ["no_own_work", "own_unit", "still_own"]


def own_unit(context: RequestContext) -> list[tuple[Assignment, UnitRow]]:
    """Return an unsent unit of the round, if the host has data and its account no part of it."""
    project, host = context.project, context.host
    if not context.has_own_data or project.state is ProjectState.FINISHED:
        return []
    if window_is_over(context) or _has_part(context, project.version):
        return []
    seeker = Seeker(
        host.id,
        host.account,
        host.network,
        host.determinism_class,
        trusted=False,  # a trusted host is a member like others
        now=context.now,
        memory_bytes=host.memory_bytes,
    )
    return context.tx.assignments.candidates(project.id, Purpose.PRIMARY, seeker, 1)


def no_own_work(context: RequestContext) -> NoWork:
    """Return why the host gets no unit."""
    project = context.project
    if project.stopped_for is None:
        if not context.has_own_data and not context.host.trusted:
            return NoWork(reason=because(ReasonCode.NO_OWN_DATA), retry_after_seconds=60)
        if _has_part(context, project.version):
            reason = because(ReasonCode.OWN_PART_TAKEN, version=project.version + 1)
            return NoWork(reason=reason, retry_after_seconds=10)
        if not window_is_over(context):
            reason = because(ReasonCode.ALL_ASSIGNED, version=project.version)
            return NoWork(reason=reason, retry_after_seconds=10)
    return no_work(context, 0)


def still_own(context: RequestContext, unit: UnitRow) -> bool:
    """Whether a result that comes after its lease can be used: it would be its account's one."""
    return (
        unit.state is UnitState.OPEN
        and not context.tx.assignments.is_computed(unit.id)
        and not _has_part(context, unit.version)
    )


def _has_part(context: RequestContext, version: int) -> bool:
    project = context.project
    place = (project.id, project.epoch, version)
    return context.tx.assignments.has_part(*place, context.host.account)
