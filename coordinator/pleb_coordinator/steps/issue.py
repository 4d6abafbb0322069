"""issue: a host that asks gets copies of units, each under a lease."""

from __future__ import annotations

from dataclasses import dataclass
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
    Project,
    ProjectState,
    Purpose,
    UnitRow,
)
from pleb_coordinator.store.interface import Seeker, Transaction
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import NoWork, WorkRequest
from pleb_shared.protocol.project import calibration_unit
from pleb_shared.protocol.unit import UnitKind, VersionSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_coordinator.steps import Deps

__all__ = ["issue_work"]

_SOURCE = msgspec.json.Decoder(VersionSource)
_CHOICE = 3
"""How many more candidates are looked at than wanted, to find one whose shard is at hand."""


_MOST_RUNTIMES: Final = 8
_RUNTIMES_SECONDS: Final = 7 * 24 * 3600.0
"""So many calibrations a host gets in this time: each costs the coordinator a comparison."""


@dataclass(frozen=True)
class _Desk:
    """What stays the same while one request is served."""

    tx: Transaction
    deps: Deps
    project: Project
    host: Host
    now: float


def issue_work(
    tx: Transaction, deps: Deps, project: Project, host: Host, request: WorkRequest
) -> tuple[list[Manifest], NoWork | None]:
    """Return manifests for the host, and why there are fewer than it asked for.

    Leases that it neither reported nor named in `in_hand` come again first, unchanged. Call
    it after `accept_reports`, in the same transaction.
    """
    if request.max_units == 0:
        return [], None
    if request.reports:
        host = tx.hosts.get(host.id)  # as `accept_reports` has left it
    host = _with_runtime(tx, host, request)
    desk = _Desk(tx, deps, project, host, deps.clock())
    if host.banned_until > desk.now:  # it was let in to wait before it was banned
        return [], NoWork(reason="This host is banned.", retry_after_seconds=300)
    if project.state in {ProjectState.PAUSED, ProjectState.ARCHIVED}:
        return [], NoWork(reason=f"The project is {project.state}.", retry_after_seconds=300)
    held = tx.assignments.leases(host.id)
    wanted = request.max_units
    work = _again(desk, held, request)
    refusal = None
    if len(work) < wanted:
        found, refusal = _fresh(desk, held, wanted - len(work))
        work += found
    return [_manifest(desk, *pair) for pair in work if _remaining(desk, pair[0]) > 0], refusal


def _with_runtime(tx: Transaction, host: Host, request: WorkRequest) -> Host:
    """Return the host with the class of the runtime that it has now."""
    runtime = request.runtime.fingerprint()
    if runtime == host.runtime:
        return host
    known = tx.calibrations.class_of(host.id, runtime)
    tx.hosts.set_runtime(host.id, runtime, known)
    return msgspec.structs.replace(host, runtime=runtime, determinism_class=known)


def _again(
    desk: _Desk, held: Mapping[int, Purpose], request: WorkRequest
) -> list[tuple[Assignment, UnitRow]]:
    """Return leased assignments that the host does not know of (any more)."""
    if held.keys() <= set(request.in_hand):
        return []
    leased = desk.tx.assignments.in_hand(desk.host.id)
    return [pair for pair in leased if pair[0].id not in request.in_hand][: request.max_units]


def _fresh(
    desk: _Desk, held: Mapping[int, Purpose], wanted: int
) -> tuple[list[tuple[Assignment, UnitRow]], NoWork | None]:
    """Return up to `wanted` assignments that were unsent until now."""
    if not desk.host.determinism_class:
        return _calibration(desk, held)
    if (alone := _alone(desk)) is not None:
        return [], alone
    room = min(wanted, leases_at_once(desk.host, desk.project) - len(held))
    if room <= 0:
        return [], NoWork(
            reason="A new host holds one unit at a time until its first results are confirmed.",
            retry_after_seconds=10,
        )
    found: list[tuple[Assignment, UnitRow]] = []
    for purpose in purposes_for(desk.host):
        if len(found) < room:
            place = len(held) + len(found)
            found += _lease(desk, purpose, room - len(found), place)
    return found, None if len(found) >= wanted else _no_work(desk, len(found))


def _calibration(
    desk: _Desk, held: Mapping[int, Purpose]
) -> tuple[list[tuple[Assignment, UnitRow]], NoWork | None]:
    """Return the host's calibration, unless it is under way."""
    tx, project = desk.tx, desk.project
    unit = _calibration_row(desk)
    waiting = NoWork(
        reason="Your PC's calibration comes first; other units follow it.", retry_after_seconds=2
    )
    under_way = tx.assignments.unjudged(unit.id, desk.host.id)
    if under_way or Purpose.CALIBRATION in held.values():
        return [], waiting
    since = desk.now - _RUNTIMES_SECONDS
    if tx.calibrations.runtimes_since(desk.host.id, since) >= _MOST_RUNTIMES:
        reason = (
            f"Your PC has been calibrated {_MOST_RUNTIMES} times in the last days, always with "
            "other software or settings: keep them for a while."
        )
        return [], NoWork(reason=reason, retry_after_seconds=3600)
    new = NewAssignment(unit=unit.id, purpose=Purpose.CALIBRATION, created_at=desk.now)
    assignment = tx.assignments.get(tx.assignments.add(new))
    until = desk.now + project.metadata.limits.lease_seconds
    return [(_give(desk, assignment, unit, until), unit)], waiting


def _calibration_row(desk: _Desk) -> UnitRow:
    project = desk.project
    place = (project.id, project.epoch, 0)
    row = desk.tx.units.find(*place, UnitKind.CALIBRATE, 0)
    if row is not None:
        return row
    unit = calibration_unit(project.metadata)
    new = NewUnit(unit.kind, 0, unit.seed, unit.shards.first, unit.shards.count, unit.local_steps)
    return desk.tx.units.get(desk.tx.units.add(*place, new, desk.now))


def _alone(desk: _Desk) -> NoWork | None:
    """Return why a host whose results nobody can compare gets nothing; see core.calibration."""
    found = desk.tx.calibrations.find_class(desk.project.id, desk.host.determinism_class)
    if found is None or not found.isolated or found.vouched:
        return None
    reason = (
        "Your PC's results differ from everybody else's by more than this project allows, so "
        "nobody could confirm them; a second PC of the same kind would change that."
    )
    return NoWork(reason=reason, retry_after_seconds=60)


def _lease(
    desk: _Desk, purpose: Purpose, count: int, place: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return up to `count` assignments of one purpose, leased to the host."""
    host, project = desk.host, desk.project
    seeker = Seeker(
        host.id, host.account, host.network, host.determinism_class, host.trusted, desk.now
    )
    extra = _CHOICE if host.last_shard >= 0 and purpose == Purpose.PRIMARY else 0
    candidates = desk.tx.assignments.candidates(project.id, purpose, seeker, count + extra)
    if purpose == Purpose.PRIMARY and candidates and not host.trusted:
        candidates = _within_share(desk, candidates, count)
    given = []
    for assignment, unit in pick(candidates, count, host.last_shard):
        place += 1
        expected = expected_seconds(unit, host, project.metadata, project.facts)
        length = lease_seconds(expected, project.metadata.limits.lease_seconds, place)
        given.append((_give(desk, assignment, unit, desk.now + length), unit))
    _count_share(desk, purpose, len(given))
    if given and given[-1][1].shard_first != host.last_shard:
        desk.tx.hosts.set_last_shard(host.id, given[-1][1].shard_first)
    return given


def _within_share(
    desk: _Desk, candidates: list[tuple[Assignment, UnitRow]], count: int
) -> list[tuple[Assignment, UnitRow]]:
    """Leave out what would be more than the account's (or network's) part of the round.

    A unit that nobody has taken for `replica_wait_seconds` is free to all: the cap is there
    to keep others in, not to let a round stand still.
    """
    project = desk.project
    limit = share_limit(project.metadata.round.units, project.active_accounts)
    place = (project.id, project.epoch, project.version)
    taken = max(desk.tx.shares.taken(*place, holder) for holder in _holders(desk.host))
    since = desk.now - project.metadata.verification.replica_wait_seconds
    overdue = [pair for pair in candidates if pair[0].created_at <= since]
    others = [pair for pair in candidates if pair[0].created_at > since]
    room = max(0, min(count, limit - taken))
    return candidates if room >= count else [*overdue, *others[:room]]


def _count_share(desk: _Desk, purpose: Purpose, count: int) -> None:
    if purpose == Purpose.PRIMARY and count and not desk.host.trusted:
        project = desk.project
        for holder in _holders(desk.host):
            place = (project.id, project.epoch, project.version)
            desk.tx.shares.add(*place, holder, count)


def _holders(host: Host) -> list[str]:
    return [host.account, host.network] if host.network else [host.account]


def _give(desk: _Desk, assignment: Assignment, unit: UnitRow, until: float) -> Assignment:
    nonce = desk.deps.random_bytes(16).hex()
    desk.tx.assignments.lease(assignment, desk.host, nonce, desk.now, until)
    event = {"assignment": assignment.id, "purpose": assignment.purpose}
    desk.tx.events.add(
        desk.project.id, desk.now, "issued", unit=unit.id, host=desk.host.id, **event
    )
    return msgspec.structs.replace(
        assignment, host=desk.host.id, nonce=nonce, issued_at=desk.now, lease_until=until
    )


def _remaining(desk: _Desk, assignment: Assignment) -> float:
    return (assignment.lease_until or 0.0) - desk.now


def _manifest(desk: _Desk, assignment: Assignment, unit: UnitRow) -> Manifest:
    project = desk.project
    version = desk.tx.versions.get(project.id, unit.epoch, unit.version)
    return Manifest(
        assignment=assignment.id,
        nonce=assignment.nonce,
        project=project.name,
        host=desk.host.fingerprint,
        metadata_number=project.metadata_number,
        unit=unit_statement(unit),
        version=_SOURCE.decode(version.source),
        issued_at=int(desk.now),
        lease_seconds=_remaining(desk, assignment),
    )


def _no_work(desk: _Desk, found: int) -> NoWork:
    """Return why there is no more, and when to ask again."""
    project, metadata = desk.project, desk.project.metadata
    if project.state == ProjectState.FINISHED or project.version >= metadata.training.versions:
        reason = f"The project has reached its last version, {metadata.training.versions}."
        return NoWork(reason=reason, retry_after_seconds=3600)
    if is_warm_start(metadata, project.version) and not desk.host.trusted:
        reason = f"Trusted hosts make version {project.version + 1} alone, as a warm start."
        return NoWork(reason=reason, retry_after_seconds=30)
    if desk.tx.assignments.unsent(project.id, Purpose.PRIMARY) and not found:
        reason = "Your account has its part of this round; the rest is for other people's PCs."
        return NoWork(reason=reason, retry_after_seconds=10)
    reason = f"All units of version {project.version} are given out; the next version is awaited."
    return NoWork(reason=reason, retry_after_seconds=10)
