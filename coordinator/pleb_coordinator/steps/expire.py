"""expire: leases and uploads that ran out, units of versions that agents would refuse as too old.

Nothing here takes long to compute, so each has two phases: find, and commit in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from msgspec.structs import astuple

from pleb_coordinator.core.assignment_state import AssignmentEvent
from pleb_coordinator.core.records import FileKind, Fleet, Purpose
from pleb_coordinator.steps.anchor import TRUSTED_SEEN_SECONDS
from pleb_coordinator.steps.files import remove_upload
from pleb_coordinator.steps.outcome import cancel_unit, expire_lease
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Assignment, Project, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_coordinator.store.views import FleetView

__all__ = [
    "FleetCount",
    "count_fleet",
    "draw_again",
    "expire_leases",
    "expire_uploads",
    "find_fleet",
    "find_leases",
    "find_old_units",
    "find_unfetched",
    "find_unserved",
    "find_uploads",
    "find_view",
    "give_to_volunteers",
    "retire_units",
    "store_view",
]

_BATCH: Final = 200
"""Rows of one transaction: work requests wait for its end."""
_ACTIVE_SECONDS: Final = 600.0
"""A host that asked for work within this time takes part."""
_LARGE_FLEET: Final = 1000
"""Hosts: reading all of them takes milliseconds."""
_CONTRIBUTORS: Final = 200
_VOLUNTEERS: Final = (Purpose.DECIDER, Purpose.APPEAL, Purpose.CHECK)
"""What volunteers do when there is no trusted host."""


@dataclass(frozen=True)
class FleetCount:
    """What is known of a project's hosts by now."""

    project: int
    fleet: Fleet


@dataclass(frozen=True)
class LargeFleet:
    """How a large fleet looked."""

    project: int
    at: float
    view: FleetView


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
        remove_upload(tx, deps, token)
        if assignment is not None:
            # a process killed after `check_upload` has left a delta that no row refers to; one
            # that is still running may be about to
            tx.tombstones.add(FileKind.DELTA, str(assignment), now + CLAIM_SECONDS)
    return len(expired)


def find_old_units(tx: Transaction, _: Deps, project: Project) -> Project | None:
    """Return the project if it has unfinished work of versions that agents refuse."""
    place = (project.id, project.epoch, project.oldest_accepted)
    unfinished = tx.assignments.any_unsent_before(*place) or tx.units.undecided_before(*place, 1)
    return project if unfinished else None


def retire_units(tx: Transaction, deps: Deps, project: Project) -> int:
    """Cancel work of versions that agents refuse as too old; return how many rows changed.

    A result that could not be confirmed in all that time counts neither for nor against its host:
    `verify` says so where another result of the unit counts.
    """
    now = deps.clock()
    place = (project.id, project.epoch, project.oldest_accepted)
    tx.units.make_due_before(*place)
    cancelled = tx.assignments.cancel_unsent_before(*place)
    units = tx.units.undecided_before(*place, _BATCH)
    for unit in units:
        _retire(tx, unit, now)
    return cancelled + len(units)


def find_unfetched(tx: Transaction, deps: Deps, _: None) -> float | None:
    """Return when a drawn host should have asked for its assignment, or None if it may yet."""
    at = tx.assignments.next_fetch()
    return at if at is not None and at <= deps.clock() else None


def draw_again(tx: Transaction, deps: Deps, _: float) -> int:
    """Cancel what drawn hosts did not ask for, without blame; `verify` draws others."""
    missed = tx.assignments.not_fetched(deps.clock(), _BATCH)
    for assignment in missed:
        tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
        tx.units.make_due(assignment.unit)
    return len(missed)


def find_unserved(tx: Transaction, deps: Deps, project: Project) -> Project | None:
    """Return the project if work waits for trusted hosts and none was seen lately that can do it.

    That is one with the memory for the unit's chunk.
    """
    return project if _unserved(tx, deps, project, 1) else None


def give_to_volunteers(tx: Transaction, deps: Deps, project: Project) -> int:
    """Cancel what only trusted hosts may take and none can; `verify` asks volunteers instead."""
    found = _unserved(tx, deps, project, _BATCH)
    for assignment in found:
        tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
        tx.units.make_due(assignment.unit)
    return len(found)


def _unserved(tx: Transaction, deps: Deps, project: Project, limit: int) -> list[Assignment]:
    """Return what waits for trusted hosts in vain: at most `limit` of each purpose."""
    if not any(tx.assignments.count_for_trusted(project.id, one) for one in _VOLUNTEERS):
        return []
    most = tx.hosts.trusted_memory(project.id, deps.clock() - TRUSTED_SEEN_SECONDS)
    return [
        assignment
        for purpose in _VOLUNTEERS
        for assignment in tx.assignments.only_for_trusted(project.id, purpose, most, limit)
    ]


def find_fleet(tx: Transaction, deps: Deps, project: Project) -> FleetCount | None:
    """Return what is known of the hosts, or None if that is what the project's row says."""
    fleet = tx.hosts.fleet(project.id, deps.clock() - _ACTIVE_SECONDS)
    same = (
        project.active_accounts,
        project.proven_hosts,
        project.new_hosts,
        project.median_step_seconds,
    ) == astuple(fleet)
    return None if same else FleetCount(project.id, fleet)


def count_fleet(tx: Transaction, _: Deps, found: FleetCount) -> None:
    """Store what is known of the hosts: it sizes shares of a round, exams and their pace."""
    tx.projects.set_fleet(found.project, found.fleet)


def find_view(tx: Transaction, deps: Deps, project: Project) -> LargeFleet | None:
    """Return how the fleet looks if it is so large that nobody should have to wait for that."""
    if not tx.hosts.more_than(project.id, _LARGE_FLEET):
        return None
    rules = project.metadata.verification
    view = tx.views.fleet(project.id, ban_after=rules.ban_after, most=_CONTRIBUTORS, oldest=inf)
    return LargeFleet(project.id, deps.clock(), view)


def store_view(tx: Transaction, _: Deps, found: LargeFleet) -> None:
    """Keep how the fleet looks, for pages and `status`."""
    tx.views.store_fleet(found.project, found.at, found.view)


def _retire(tx: Transaction, unit: UnitRow, now: float) -> None:
    if unit.disputed or unit.look_at is not None:
        tx.units.set_dispute(unit.id, disputed=False, deciders=0)
        tx.units.set_look_at(unit.id, None)
    cancel_unit(tx, unit, now, because(ReasonCode.NOT_CONFIRMED))
