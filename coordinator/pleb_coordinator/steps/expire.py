"""expire: leases that ran out go to somebody else; what is too old is put away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.unit_state import UnitEvent
from pleb_coordinator.steps.outcome import expire_lease
from pleb_coordinator.store.assignments import Judgement
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["expire_leases", "expire_uploads", "retire_versions"]

_BATCH: Final = 200
"""Rows of one transaction: others must get their turn."""
_ACTIVE_SECONDS: Final = 600.0


def expire_leases(tx: Transaction, deps: Deps) -> int:
    """Take back leases that ran out, of all projects; return how many."""
    now = deps.clock()
    expired = tx.assignments.expired(now, _BATCH)
    for assignment in expired:
        expire_lease(tx, now, assignment)
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


def _retire(tx: Transaction, unit: UnitRow, now: float) -> None:
    tx.units.move(unit, UnitEvent.CANCELLED, now, None)
    for assignment in tx.assignments.reported(unit.id):
        judgement = Judgement(Verdict.LATE, 0.0, None, because(ReasonCode.NOT_CONFIRMED))
        tx.assignments.judge(assignment, AssignmentEvent.SET_ASIDE, judgement)
    for assignment in tx.assignments.of_unit(unit.id):
        if assignment.state in {AssignmentState.LEASED, AssignmentState.UPLOADING}:
            tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
