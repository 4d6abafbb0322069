"""issue: give a host that asks copies of units, each under a lease."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.assignment import TRUSTED_ORDER, leases_at_once, share_limit
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.chunks import fits, least_memory, whole_steps
from pleb_coordinator.core.planning import unit_statement
from pleb_coordinator.core.records import (
    Assignment,
    Host,
    NewAssignment,
    NewUnit,
    ProjectState,
    Purpose,
    SpotCheck,
    UnitRow,
)
from pleb_coordinator.core.reputation import spot_checks_left
from pleb_coordinator.core.voices import holders
from pleb_coordinator.steps.candidates import choose
from pleb_coordinator.steps.exams import for_new_host, units_kept_for_exams
from pleb_coordinator.steps.fit import fitted, in_window, unit_to_double
from pleb_coordinator.steps.leasing import give, lease, lease_more
from pleb_coordinator.steps.no_work import no_work, not_comparable, paced
from pleb_coordinator.steps.own import no_own_work, own_unit
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import NoWork, WorkRequest
from pleb_shared.protocol.project import calibration_unit
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_coordinator.steps import RequestContext

__all__ = ["issue_work"]

_SPOT_CHECKS: Final = 400
"""Of this many confirmed units one is drawn."""
_FREE_TO_ALL_SECONDS: Final = 60.0
"""A unit that nobody took for this long is kept for nobody."""
_CLOSED: Final = frozenset({ProjectState.PAUSED, ProjectState.ARCHIVED, ProjectState.MOVED})
"""Nothing at all is issued; while a project is finished, results are still checked."""
_REFUSED_SECONDS: Final = 1.0
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
    if request.refuses:  # it would refuse them too: they would wait for their leases to end
        reason = because(ReasonCode.ANSWER_REFUSED)
        return [], NoWork(reason=reason, retry_after_seconds=_REFUSED_SECONDS)
    if request.runtime.fingerprint() != context.host.runtime:
        context = replace(context, host=_with_runtime(context, request))
    if request.memory_bytes != context.host.memory_bytes:
        memory = msgspec.structs.replace(context.host, memory_bytes=request.memory_bytes)
        context = replace(context, host=memory)  # `serve` stores it
    tx, project, host = context.tx, context.project, context.host
    if host.banned_until > context.now:  # it began to wait before it was banned
        return [], NoWork(reason=because(ReasonCode.HOST_BANNED), retry_after_seconds=300)
    if project.state in _CLOSED:
        return [], no_work(context, 0)
    context = replace(context, in_hand=tx.assignments.in_hand(host.id))
    wanted = request.max_units
    work = _again(context, request)
    refusal = None
    if len(work) < wanted:
        found, refusal = _fresh(context, wanted - len(work))
        work += found
    return [_manifest(context, *pair) for pair in work if _remaining(context, pair[0]) > 0], refusal


def _own(
    context: RequestContext, wanted: int
) -> tuple[list[tuple[Assignment, UnitRow]], NoWork | None]:
    """Return a unit on the host's own data, and the evaluations that only trusted hosts do."""
    room = min(wanted, leases_at_once(context.host) - len(context.in_hand))
    if room <= 0:
        return [], NoWork(reason=because(ReasonCode.NEW_HOST_LIMIT), retry_after_seconds=10)
    found: list[tuple[Assignment, UnitRow]] = []
    if context.host.trusted:
        pairs = in_window(context, choose(context, Purpose.EVALUATION, room))
        found = lease(context, pairs)
    if len(found) < room:
        found += lease(context, in_window(context, own_unit(context)))
    return found, None if len(found) >= wanted else no_own_work(context)


def _with_runtime(context: RequestContext, request: WorkRequest) -> Host:
    """Return the host with its new runtime and the class that it had with it before."""
    tx, host = context.tx, context.host
    runtime = request.runtime.fingerprint()
    known = tx.calibrations.class_of(host.id, runtime)
    tx.hosts.set_runtime(host.id, runtime, known)
    return msgspec.structs.replace(host, runtime=runtime, determinism_class=known)


def _again(context: RequestContext, request: WorkRequest) -> list[tuple[Assignment, UnitRow]]:
    """Return leased assignments that the host does not know of (any more)."""
    unknown = [
        (assignment, unit)
        for assignment, unit in context.in_hand
        if assignment.state is AssignmentState.LEASED and assignment.id not in request.in_hand
    ]
    return unknown[: request.max_units]


def _fresh(
    context: RequestContext, wanted: int
) -> tuple[list[tuple[Assignment, UnitRow]], NoWork | None]:
    """Return up to `wanted` assignments that were unsent until now."""
    memory = context.host.memory_bytes
    least = least_memory(context.project.metadata)
    if memory is not None and memory < least:
        mib = memory >> 20, -(-least >> 20)
        reason = because(ReasonCode.MEMORY_TOO_SMALL, memory=mib[0], needed=mib[1])
        return [], NoWork(reason=reason, retry_after_seconds=300)
    if not context.host.determinism_class:
        return _calibration(context)
    if context.project.metadata.data.own is not None:
        return _own(context, wanted)
    if (refusal := not_comparable(context)) is not None:
        return [], refusal
    room = min(wanted, leases_at_once(context.host) - len(context.in_hand))
    if room <= 0:
        return [], NoWork(reason=because(ReasonCode.NEW_HOST_LIMIT), retry_after_seconds=10)
    if context.host.trusted:
        found = _for_trusted(context, room)
    elif context.host.paced_until > context.now:
        return [], paced(context)
    elif context.host.proven:
        found = _for_proven(context, room)
    else:
        found = for_new_host(context)
    return found, None if len(found) >= wanted else no_work(context, len(found))


def _calibration(
    context: RequestContext,
) -> tuple[list[tuple[Assignment, UnitRow]], NoWork | None]:
    """Return the host's calibration, unless the host is computing or has reported it."""
    tx, project = context.tx, context.project
    unit = _calibration_row(context)
    waiting = NoWork(reason=because(ReasonCode.CALIBRATING), retry_after_seconds=2)
    under_way = tx.assignments.unjudged(unit.id, context.host.id)
    held = {assignment.purpose for assignment, _ in context.in_hand}
    if under_way or Purpose.CALIBRATION in held:
        return [], waiting
    since = context.now - _RUNTIMES_SECONDS
    if tx.calibrations.runtimes_since(context.host.id, since) >= _MOST_RUNTIMES:
        reason = because(ReasonCode.CALIBRATED_TOO_OFTEN, count=_MOST_RUNTIMES)
        return [], NoWork(reason=reason, retry_after_seconds=3600)
    new = NewAssignment(unit=unit.id, purpose=Purpose.CALIBRATION, created_at=context.now)
    assignment = tx.assignments.get(tx.assignments.add(new))
    until = context.now + project.metadata.limits.lease_seconds
    return [(give(context, assignment, unit, until), unit)], waiting


def _calibration_row(context: RequestContext) -> UnitRow:
    project = context.project
    place = (project.id, project.epoch, 0)
    row = context.tx.units.find(*place, UnitKind.CALIBRATE, 0)
    if row is not None:
        return row
    unit = calibration_unit(project.metadata)
    shards = (unit.shards.first, unit.shards.count)
    new = NewUnit(unit.kind, 0, unit.seed, *shards, unit.local_steps, chunk=unit.chunk)
    return context.tx.units.get(context.tx.units.add(*place, new, context.now))


def _for_trusted(context: RequestContext, room: int) -> list[tuple[Assignment, UnitRow]]:
    """Return up to `room` assignments for a trusted host, the most urgent first."""
    found: list[tuple[Assignment, UnitRow]] = []
    offered = context.tx.assignments.unsent_purposes(context.project.id)
    for purpose in TRUSTED_ORDER:
        left = room - len(found)
        if not left:
            break
        if purpose in offered:
            pairs = choose(context, purpose, left)
            if purpose is Purpose.PRIMARY:
                pairs = fitted(context, pairs)
            found += lease(context, in_window(context, pairs))
        elif purpose is Purpose.APPEAL:
            disputes = context.tx.units.waiting_disputes(context.project.id, left)
            found += lease_more(context, disputes, Purpose.DECIDER)
        elif purpose is Purpose.SPOT_CHECK:
            found += lease_more(context, _to_spot_check(context), purpose)
    return found


def _to_spot_check(context: RequestContext) -> list[UnitRow]:
    """Return a unit that volunteers confirmed, if it is time to check one; drawn by lot."""
    tx, project = context.tx, context.project
    alarm = tx.hosts.alarm(project.id)
    rules = project.metadata.verification
    oldest = project.oldest_accepted + 1
    for wanted, state in ((True, SpotCheck.WANTED), (False, SpotCheck.POSSIBLE)):
        if not spot_checks_left(alarm, rules, wanted=wanted):
            continue
        units = tx.units.to_spot_check(project.id, project.epoch, oldest, state, _SPOT_CHECKS)
        if units:
            unit = units[int.from_bytes(context.deps.random_bytes(4), "big") % len(units)]
            tx.units.set_spot_check(unit.id, SpotCheck.DONE)
            tx.hosts.put_alarm(msgspec.structs.replace(alarm, spot_checks=alarm.spot_checks + 1))
            return [unit]
    return []


def _for_proven(context: RequestContext, room: int) -> list[tuple[Assignment, UnitRow]]:
    """Return up to `room` units for a proven host, no faster than it computes them.

    They are checks that were drawn for it, and first tries. Nothing tells them apart: not when
    they come, nor in which order.
    """
    host = context.host
    drawn = context.tx.assignments.drawn_for(host.id)
    drawn = [pair for pair in drawn if fits(pair[1], host)]  # it may have less memory by now
    pairs = in_window(context, drawn[:room])
    left = room - len(pairs)
    if left:
        candidates = _first_tries(context, left)
        first_tries = fitted(context, _within_share(context, candidates, left))
        first_tries = in_window(context, first_tries, pairs)
        _count_share(context, len(first_tries))
        pairs += first_tries
    order = sorted(pairs, key=lambda _: context.deps.random_bytes(8))
    found = lease(context, order)
    if not found and (late := unit_to_double(context)) is not None:
        found = lease_more(context, [late], Purpose.PRIMARY)
    if found:
        seconds = host.fastest_step_seconds or host.seconds_per_step or 0.0
        steps = sum(whole_steps(unit, context.project.facts) for _, unit in found)
        pace = context.project.metadata.verification.pace * seconds * steps
        context.changes.paced_until = context.now + pace
    return found


def _first_tries(context: RequestContext, count: int) -> list[tuple[Assignment, UnitRow]]:
    """Return first tries, but for a minute not those that many new hosts are to share.

    Proven hosts would else take them all as soon as a version is made.
    """
    kept = units_kept_for_exams(context) if context.project.new_hosts else 0
    found = choose(context, Purpose.PRIMARY, count + kept)
    since = context.now - _FREE_TO_ALL_SECONDS
    spare = len(found) - kept
    free = [pair for n, pair in enumerate(found) if n < spare or pair[0].created_at <= since]
    return free[:count]


def _within_share(
    context: RequestContext, candidates: list[tuple[Assignment, UnitRow]], count: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return the candidates within the account's (or network's) share of the round.

    A unit that has waited for a minute is free to all: the limit is there to leave room for
    others, not to stop a round.
    """
    project = context.project
    limit = share_limit(project.metadata.round.units, project.active_accounts)
    place = (project.id, project.epoch, project.version)
    taken = max(context.tx.shares.taken(*place, holder) for holder in _holders(context.host))
    since = context.now - _FREE_TO_ALL_SECONDS
    overdue = [pair for pair in candidates if pair[0].created_at <= since]
    others = [pair for pair in candidates if pair[0].created_at > since]
    room = max(0, min(count, limit - taken))
    return candidates if room >= count else [*overdue, *others[:room]]


def _count_share(context: RequestContext, count: int) -> None:
    if count:
        project = context.project
        for holder in _holders(context.host):
            place = (project.id, project.epoch, project.version)
            context.tx.shares.add(*place, holder, count)


def _holders(host: Host) -> list[str]:
    return holders(host.account, host.network)


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
