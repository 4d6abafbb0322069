"""expire: leases that ran out go to somebody else; what is too old is put away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentEvent
from pleb_coordinator.core.records import Assignment, Project, Purpose, UnitRow, another
from pleb_coordinator.core.reputation import after_unanswered, standing_of
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.store.interface import Judgement, Transaction
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_coordinator.steps import Deps

__all__ = ["expire_leases", "expire_uploads", "retire_versions"]

_BATCH: Final = 200
"""Rows of one transaction: others must get their turn."""
_ACTIVE_SECONDS: Final = 600.0
_REPEATED: Final = {Purpose.REPLICA, Purpose.DECIDER, Purpose.AUDIT}
_WANTED: Final = {UnitState.OPEN, UnitState.VALID, UnitState.LATE, UnitState.APPLIED}


def expire_leases(tx: Transaction, deps: Deps) -> int:
    """Take back leases that ran out, of all projects; return how many."""
    now = deps.clock()
    expired = tx.assignments.expired(now, _BATCH)
    for assignment in expired:
        _expire(tx, assignment, now)
    return len(expired)


def expire_uploads(tx: Transaction, deps: Deps) -> int:
    """Throw away uploads whose time has run out; return how many."""
    tokens = tx.uploads.take_expired(deps.clock(), _BATCH)
    for token in tokens:
        deps.blobs.drop_upload(token)
    return len(tokens)


def retire_versions(tx: Transaction, deps: Deps, project: Project) -> int:
    """Cancel what agents would refuse because its version is too old; return how many rows.

    A result that nobody confirmed in all that time counts neither for nor against its host.
    Also counts the accounts that take part.
    """
    now = deps.clock()
    active = tx.hosts.active_accounts(project.id, now - _ACTIVE_SECONDS)
    if active != project.active_accounts:
        tx.projects.set_active_accounts(project.id, active)
    oldest = max(0, project.version - LIMITS.version_lag)
    cancelled = tx.assignments.cancel_unsent_before(project.id, project.epoch, oldest)
    units = tx.units.undecided_before(project.id, project.epoch, oldest, _BATCH)
    for unit in units:
        _retire(tx, unit, now)
    return cancelled + len(units)


def _expire(tx: Transaction, assignment: Assignment, now: float) -> None:
    if not tx.assignments.move(assignment, AssignmentEvent.EXPIRED) or assignment.host is None:
        return
    host = tx.hosts.get(assignment.host)
    tx.hosts.set_standing(host.id, after_unanswered(standing_of(host)))
    unit = tx.units.get(assignment.unit)
    if assignment.purpose == Purpose.PRIMARY and not host.trusted:
        for holder in filter(None, (assignment.account, assignment.network)):
            tx.shares.add(unit.project, unit.epoch, unit.version, holder, -1)
    if _still_wanted(assignment, unit):
        tx.assignments.add(another(assignment, now))
    detail = {"assignment": assignment.id}
    tx.events.add(unit.project, now, "expired", unit=unit.id, host=host.id, **detail)


def _still_wanted(assignment: Assignment, unit: UnitRow) -> bool:
    if unit.kind == UnitKind.CALIBRATE:
        return False
    if assignment.purpose in _REPEATED:
        return unit.state in _WANTED
    return unit.state == UnitState.OPEN


def _retire(tx: Transaction, unit: UnitRow, now: float) -> None:
    tx.units.move(unit, UnitEvent.CANCELLED, now, None)
    for assignment in tx.assignments.reported(unit.id):
        judgement = Judgement(Verdict.LATE, 0.0, None, "Nobody could confirm it in time.")
        tx.assignments.judge(assignment, AssignmentEvent.SET_ASIDE, judgement)
    for assignment in tx.assignments.of_unit(unit.id):
        if assignment.state in {"leased", "uploading"}:
            tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
