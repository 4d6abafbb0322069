"""expire: leases and uploads that ran out, units of versions that agents would refuse as too old.

Nothing here takes long to compute, so each has two phases: find, and commit in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.records import FileKind
from pleb_coordinator.core.unit_state import UnitEvent
from pleb_coordinator.steps.outcome import expire_lease
from pleb_coordinator.store.assignments import Judgement
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "Accounts",
    "count_accounts",
    "expire_leases",
    "expire_uploads",
    "find_accounts",
    "find_leases",
    "find_old_units",
    "find_uploads",
    "retire_units",
]

_BATCH: Final = 200
"""Rows of one transaction: work requests wait for its end."""
_ACTIVE_SECONDS: Final = 600.0
"""An account that asked for work within this time takes part."""


@dataclass(frozen=True)
class Accounts:
    """How many accounts take part in a project."""

    project: int
    active: int


def find_leases(tx: Transaction, deps: Deps, _: None) -> float | None:
    """Return when the first lease ran out, or None."""
    end = tx.assignments.next_lease_end()
    return end if end is not None and end <= deps.clock() else None


def expire_leases(tx: Transaction, deps: Deps, _: float) -> int:
    """End leases that ran out, of all projects; return how many."""
    now = deps.clock()
    expired = tx.assignments.expired(now, _BATCH)
    for assignment in expired:
        expire_lease(tx, now, assignment)
    return len(expired)


def find_uploads(tx: Transaction, deps: Deps, _: None) -> bool | None:
    """Return True if an upload slot has expired, else None."""
    return tx.uploads.any_expired(deps.clock()) or None


def expire_uploads(tx: Transaction, deps: Deps, _: bool) -> int:
    """Remove upload slots that have expired, and have their bytes deleted; return how many."""
    now = deps.clock()
    expired = tx.uploads.take_expired(now, _BATCH)
    for token, assignment in expired:
        tx.tombstones.add(FileKind.UPLOAD, token, now)
        if assignment is not None:
            # a process killed after `check_upload` has left a delta that no row refers to; one
            # that is still running may be about to
            tx.tombstones.add(FileKind.DELTA, str(assignment), now + CLAIM_SECONDS)
    return len(expired)


def find_old_units(tx: Transaction, _: Deps, project: Project) -> Project | None:
    """Return the project if it has unfinished work of versions that agents refuse."""
    place = (project.id, project.epoch, _oldest(project))
    unfinished = tx.assignments.any_unsent_before(*place) or tx.units.undecided_before(*place, 1)
    return project if unfinished else None


def retire_units(tx: Transaction, deps: Deps, project: Project) -> int:
    """Cancel work of versions that agents refuse as too old; return how many rows changed.

    A result that could not be confirmed in all that time counts neither for nor against its host.
    """
    now = deps.clock()
    place = (project.id, project.epoch, _oldest(project))
    cancelled = tx.assignments.cancel_unsent_before(*place)
    units = tx.units.undecided_before(*place, _BATCH)
    for unit in units:
        _retire(tx, unit, now)
    return cancelled + len(units)


def find_accounts(tx: Transaction, deps: Deps, project: Project) -> Accounts | None:
    """Return how many accounts take part, or None if that is what the project's row says."""
    active = tx.hosts.active_accounts(project.id, deps.clock() - _ACTIVE_SECONDS)
    return Accounts(project.id, active) if active != project.active_accounts else None


def count_accounts(tx: Transaction, _: Deps, accounts: Accounts) -> None:
    """Store how many accounts take part; it sizes an account's share of a round."""
    tx.projects.set_active_accounts(accounts.project, accounts.active)


def _oldest(project: Project) -> int:
    """Return the oldest version that agents still accept; negative while they accept all.

    Not 0: a search for rows below version 0 would read all rows of version 0, where a new project
    has its whole round.
    """
    return project.version - LIMITS.version_lag


def _retire(tx: Transaction, unit: UnitRow, now: float) -> None:
    tx.units.move(unit, UnitEvent.CANCELLED, now, None)
    for assignment in tx.assignments.of_unit(unit.id):
        if assignment.state == AssignmentState.REPORTED:
            judgement = Judgement(Verdict.LATE, 0.0, None, because(ReasonCode.NOT_CONFIRMED))
            tx.assignments.judge(assignment, AssignmentEvent.SET_ASIDE, judgement)
        elif assignment.state in {AssignmentState.LEASED, AssignmentState.UPLOADING}:
            tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
