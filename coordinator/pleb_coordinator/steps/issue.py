"""issue: give a host that asks copies of units, each under a lease."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.assignment import (
    expected_seconds,
    lease_seconds,
    leases_at_once,
    pick,
    purposes_for,
    share_limit,
)
from pleb_coordinator.core.planning import is_warm_start, unit_statement
from pleb_coordinator.core.records import (
    Assignment,
    Host,
    NewAssignment,
    NewUnit,
    ProjectState,
    Purpose,
    UnitRow,
)
from pleb_coordinator.core.voices import identifies
from pleb_coordinator.store.assignments import Seeker
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import NoWork, WorkRequest
from pleb_shared.protocol.project import calibration_unit
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_coordinator.steps import RequestContext

__all__ = ["issue_work"]

_CHOICE = 3
"""Candidates to choose from beyond those asked for, to find one on the shard that the host has."""


_CLOSED: Final[dict[str, ReasonCode]] = {
    ProjectState.PAUSED: ReasonCode.PROJECT_PAUSED,
    ProjectState.ARCHIVED: ReasonCode.PROJECT_ARCHIVED,
}
_MOST_RUNTIMES: Final = 8
_RUNTIMES_SECONDS: Final = 7 * 24 * 3600.0
"""A host gets at most `_MOST_RUNTIMES` calibrations in this time: each costs a comparison."""


def issue_work(
    context: RequestContext, request: WorkRequest
) -> tuple[list[Manifest], NoWork | None]:
    """Return manifests for the host, and why there are fewer than it asked for.

    Leases that it neither reported nor named in `in_hand` come again first, unchanged. It is
    called after `accept_reports`, in the same transaction: reports end leases.
    """
    if request.max_units == 0:
        return [], None
    if request.runtime.fingerprint() != context.host.runtime:
        context = replace(context, host=_with_runtime(context, request))
    tx, project, host = context.tx, context.project, context.host
    if host.banned_until > context.now:  # it began to wait before it was banned
        return [], NoWork(reason=because(ReasonCode.HOST_BANNED), retry_after_seconds=300)
    if (closed := _CLOSED.get(project.state)) is not None:
        return [], NoWork(reason=because(closed), retry_after_seconds=300)
    held = tx.assignments.leases(host.id)
    wanted = request.max_units
    work = _again(context, held, request)
    refusal = None
    if len(work) < wanted:
        found, refusal = _fresh(context, held, wanted - len(work))
        work += found
    return [_manifest(context, *pair) for pair in work if _remaining(context, pair[0]) > 0], refusal


def _with_runtime(context: RequestContext, request: WorkRequest) -> Host:
    """Return the host with its new runtime and the class that it had with it before."""
    tx, host = context.tx, context.host
    runtime = request.runtime.fingerprint()
    known = tx.calibrations.class_of(host.id, runtime)
    tx.hosts.set_runtime(host.id, runtime, known)
    return msgspec.structs.replace(host, runtime=runtime, determinism_class=known)


def _again(
    context: RequestContext, held: Mapping[int, Purpose], request: WorkRequest
) -> list[tuple[Assignment, UnitRow]]:
    """Return leased assignments that the host does not know of (any more)."""
    if held.keys() <= set(request.in_hand):
        return []
    leased = context.tx.assignments.in_hand(context.host.id)
    return [pair for pair in leased if pair[0].id not in request.in_hand][: request.max_units]


def _fresh(
    context: RequestContext, held: Mapping[int, Purpose], wanted: int
) -> tuple[list[tuple[Assignment, UnitRow]], NoWork | None]:
    """Return up to `wanted` assignments that were unsent until now."""
    if not context.host.determinism_class:
        return _calibration(context, held)
    if (alone := _alone(context)) is not None:
        return [], alone
    room = min(wanted, leases_at_once(context.host, context.project) - len(held))
    if room <= 0:
        return [], NoWork(reason=because(ReasonCode.NEW_HOST_LIMIT), retry_after_seconds=10)
    found: list[tuple[Assignment, UnitRow]] = []
    offered = context.tx.assignments.unsent_purposes(context.project.id)
    for purpose in purposes_for(context.host):
        if len(found) < room and purpose in offered:
            place = len(held) + len(found)
            found += _lease(context, purpose, room - len(found), place)
    return found, None if len(found) >= wanted else _no_work(context, len(found))


def _calibration(
    context: RequestContext, held: Mapping[int, Purpose]
) -> tuple[list[tuple[Assignment, UnitRow]], NoWork | None]:
    """Return the host's calibration, unless the host is computing or has reported it."""
    tx, project = context.tx, context.project
    unit = _calibration_row(context)
    waiting = NoWork(reason=because(ReasonCode.CALIBRATING), retry_after_seconds=2)
    under_way = tx.assignments.unjudged(unit.id, context.host.id)
    if under_way or Purpose.CALIBRATION in held.values():
        return [], waiting
    since = context.now - _RUNTIMES_SECONDS
    if tx.calibrations.runtimes_since(context.host.id, since) >= _MOST_RUNTIMES:
        reason = because(ReasonCode.CALIBRATED_TOO_OFTEN, count=_MOST_RUNTIMES)
        return [], NoWork(reason=reason, retry_after_seconds=3600)
    new = NewAssignment(unit=unit.id, purpose=Purpose.CALIBRATION, created_at=context.now)
    assignment = tx.assignments.get(tx.assignments.add(new))
    until = context.now + project.metadata.limits.lease_seconds
    return [(_give(context, assignment, unit, until), unit)], waiting


def _calibration_row(context: RequestContext) -> UnitRow:
    project = context.project
    place = (project.id, project.epoch, 0)
    row = context.tx.units.find(*place, UnitKind.CALIBRATE, 0)
    if row is not None:
        return row
    unit = calibration_unit(project.metadata)
    new = NewUnit(unit.kind, 0, unit.seed, unit.shards.first, unit.shards.count, unit.local_steps)
    return context.tx.units.get(context.tx.units.add(*place, new, context.now))


def _alone(context: RequestContext) -> NoWork | None:
    """Return why a host gets nothing if no other can confirm its results; see core.calibration."""
    found = context.tx.calibrations.find_class(context.project.id, context.host.determinism_class)
    if found is None or not found.isolated or found.vouched:
        return None
    return NoWork(reason=because(ReasonCode.NOT_COMPARABLE), retry_after_seconds=60)


def _lease(
    context: RequestContext, purpose: Purpose, count: int, place: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return up to `count` assignments of one purpose, leased to the host."""
    host, project = context.host, context.project
    seeker = Seeker(
        host.id, host.account, host.network, host.determinism_class, host.trusted, context.now
    )
    extra = _CHOICE if host.last_shard >= 0 and purpose == Purpose.PRIMARY else 0
    candidates = context.tx.assignments.candidates(project.id, purpose, seeker, count + extra)
    if purpose == Purpose.PRIMARY and candidates and not host.trusted:
        candidates = _within_share(context, candidates, count)
    given = []
    for assignment, unit in pick(candidates, count, host.last_shard):
        place += 1
        expected = expected_seconds(unit, host, project.metadata, project.facts)
        length = lease_seconds(expected, project.metadata.limits.lease_seconds, place)
        given.append((_give(context, assignment, unit, context.now + length), unit))
    _count_share(context, purpose, len(given))
    if given and given[-1][1].shard_first != host.last_shard:
        context.tx.hosts.set_last_shard(host.id, given[-1][1].shard_first)
    return given


def _within_share(
    context: RequestContext, candidates: list[tuple[Assignment, UnitRow]], count: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return the candidates within the account's (or network's) share of the round.

    A unit that has waited for `replica_wait_seconds` is free to all: the limit is there to leave
    room for others, not to stop a round.
    """
    project = context.project
    limit = share_limit(project.metadata.round.units, project.active_accounts)
    place = (project.id, project.epoch, project.version)
    taken = max(context.tx.shares.taken(*place, holder) for holder in _holders(context.host))
    since = context.now - project.metadata.verification.replica_wait_seconds
    overdue = [pair for pair in candidates if pair[0].created_at <= since]
    others = [pair for pair in candidates if pair[0].created_at > since]
    room = max(0, min(count, limit - taken))
    return candidates if room >= count else [*overdue, *others[:room]]


def _count_share(context: RequestContext, purpose: Purpose, count: int) -> None:
    if purpose == Purpose.PRIMARY and count and not context.host.trusted:
        project = context.project
        for holder in _holders(context.host):
            place = (project.id, project.epoch, project.version)
            context.tx.shares.add(*place, holder, count)


def _holders(host: Host) -> list[str]:
    return [host.account, *filter(identifies, [host.network])]


def _give(
    context: RequestContext, assignment: Assignment, unit: UnitRow, until: float
) -> Assignment:
    """Lease an unsent assignment to the host."""
    nonce = context.deps.random_bytes(16).hex()
    host, now = context.host, context.now
    context.tx.assignments.lease(assignment, host, nonce, now, until)
    detail = {"assignment": assignment.id, "purpose": assignment.purpose}
    context.tx.events.add(unit.project, now, "issued", unit=unit.id, host=host.id, **detail)
    return msgspec.structs.replace(
        assignment, host=host.id, nonce=nonce, issued_at=now, lease_until=until
    )


def _remaining(context: RequestContext, assignment: Assignment) -> float:
    return (assignment.lease_until or 0.0) - context.now


def _manifest(context: RequestContext, assignment: Assignment, unit: UnitRow) -> Manifest:
    project = context.project
    return Manifest(
        assignment=assignment.id,
        nonce=assignment.nonce,
        project=project.name,
        host=context.host.fingerprint,
        metadata_number=project.metadata_number,
        unit=unit_statement(unit),
        version=context.tx.versions.source(project.id, unit.epoch, unit.version),
        issued_at=int(context.now),
        lease_seconds=_remaining(context, assignment),
    )


def _no_work(context: RequestContext, found: int) -> NoWork:
    """Return why there is no more, and when to ask again."""
    project, metadata = context.project, context.project.metadata
    if project.state == ProjectState.FINISHED or project.version >= metadata.training.versions:
        reason = because(ReasonCode.LAST_VERSION_REACHED, version=metadata.training.versions)
        return NoWork(reason=reason, retry_after_seconds=3600)
    if is_warm_start(metadata, project.version) and not context.host.trusted:
        reason = because(ReasonCode.WARM_START, version=project.version + 1)
        return NoWork(reason=reason, retry_after_seconds=30)
    if not found and Purpose.PRIMARY in context.tx.assignments.unsent_purposes(project.id):
        return NoWork(reason=because(ReasonCode.ACCOUNT_SHARE_USED), retry_after_seconds=10)
    reason = because(ReasonCode.ALL_ASSIGNED, version=project.version)
    return NoWork(reason=reason, retry_after_seconds=10)
