"""issue: give a host that asks copies of units, each under a lease."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.assignment import (
    TRUSTED_ORDER,
    exam_hosts,
    exam_pace_seconds,
    exams_to_come,
    expected_seconds,
    lease_seconds,
    leases_at_once,
    most_exams,
    most_open_exams,
    pick,
    share_limit,
)
from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.chunks import (
    best_chunk,
    fits,
    least_memory,
    link_of,
    room_for_chunks,
    smaller_chunks,
    whole_memory,
    whole_steps,
)
from pleb_coordinator.core.planning import unit_statement
from pleb_coordinator.core.records import (
    Assignment,
    Counting,
    Host,
    NewAssignment,
    NewUnit,
    ProjectState,
    Purpose,
    SpotCheck,
    UnitRow,
)
from pleb_coordinator.core.reputation import spot_checks_left
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.core.voices import identifies
from pleb_coordinator.steps.anchor import (
    TRUSTED_SEEN_SECONDS,
    ask_anchor,
    class_of_unit,
    isolated_class,
)
from pleb_coordinator.steps.fit import (
    fitted,
    in_window,
    nothing_fits,
    unit_to_double,
    window_is_over,
)
from pleb_coordinator.store.assignments import Seeker
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.messages import NoWork, WorkRequest
from pleb_shared.protocol.project import calibration_unit
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pleb_coordinator.steps import RequestContext

__all__ = ["issue_work"]

_SPOT_CHECKS: Final = 400
"""Of this many confirmed units one is drawn."""
_FREE_TO_ALL_SECONDS: Final = 60.0
_CHOICE = 3
"""Candidates to choose from beyond those asked for, to find one on the shard that the host has."""


_CLOSED: Final = frozenset({ProjectState.PAUSED, ProjectState.ARCHIVED})
"""Nothing at all is issued; while a project is finished, results are still checked."""
_COMPUTED: Final = frozenset({AssignmentState.LEASED, AssignmentState.UPLOADING})
_STRONG_SECONDS: Final = 600.0
"""Half of a round is kept for hosts with the memory for it while one asked within this time."""
_REFUSED_SECONDS: Final = 1.0
_ASK_AGAIN_SECONDS: Final = (15.0, 300.0)
_ASKING_A_SECOND: Final = 50.0
"""Hosts of a project without work ask again so often, all together: a small fleet soon notices
that its project goes on, and a large one does not load the coordinator."""
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
        return [], _no_work(context, 0)
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
    memory = context.host.memory_bytes
    least = least_memory(context.project.metadata)
    if memory is not None and memory < least:
        mib = memory >> 20, -(-least >> 20)
        reason = because(ReasonCode.MEMORY_TOO_SMALL, memory=mib[0], needed=mib[1])
        return [], NoWork(reason=reason, retry_after_seconds=300)
    if not context.host.determinism_class:
        return _calibration(context, held)
    if (alone := _alone(context)) is not None:
        return [], alone
    room = min(wanted, leases_at_once(context.host) - len(held))
    if room <= 0:
        return [], NoWork(reason=because(ReasonCode.NEW_HOST_LIMIT), retry_after_seconds=10)
    place = len(held)
    if context.host.trusted:
        found = _for_trusted(context, room, place)
    elif context.host.paced_until > context.now:
        return [], _paced(context)
    elif context.host.proven:
        found = _for_proven(context, room, place)
    else:
        found = _exam(context, place)
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
    shards = (unit.shards.first, unit.shards.count)
    new = NewUnit(unit.kind, 0, unit.seed, *shards, unit.local_steps, chunk=unit.chunk)
    return context.tx.units.get(context.tx.units.add(*place, new, context.now))


def _alone(context: RequestContext) -> NoWork | None:
    """Return why a host gets nothing if no other can confirm its results; see core.calibration."""
    found = context.tx.calibrations.find_class(context.project.id, context.host.determinism_class)
    if found is None or not found.isolated or found.vouched:
        return None
    return NoWork(reason=because(ReasonCode.NOT_COMPARABLE), retry_after_seconds=60)


def _for_trusted(
    context: RequestContext, room: int, place: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return up to `room` assignments for a trusted host, the most urgent first."""
    found: list[tuple[Assignment, UnitRow]] = []
    offered = context.tx.assignments.unsent_purposes(context.project.id)
    for purpose in TRUSTED_ORDER:
        left = room - len(found)
        if not left:
            break
        if purpose in offered:
            pairs = _choose(context, purpose, left)
            if purpose is Purpose.PRIMARY:
                pairs = fitted(context, pairs)
            pairs = in_window(context, pairs, found)
            found += _lease(context, pairs, place + len(found))
        elif purpose is Purpose.APPEAL:
            disputes = context.tx.units.waiting_disputes(context.project.id, left)
            found += _also(context, disputes, Purpose.DECIDER, place + len(found))
        elif purpose is Purpose.SPOT_CHECK:
            found += _also(context, _to_spot_check(context), purpose, place + len(found))
    return found


def _to_spot_check(context: RequestContext) -> list[UnitRow]:
    """Return a unit that volunteers confirmed, if it is time to check one; drawn by lot."""
    tx, project = context.tx, context.project
    alarm = tx.hosts.alarm(project.id)
    rules = project.metadata.verification
    oldest = project.version - LIMITS.version_lag + 1
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


def _for_proven(context: RequestContext, room: int, place: int) -> list[tuple[Assignment, UnitRow]]:
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
    found = _lease(context, order, place)
    if not found and (late := unit_to_double(context)) is not None:
        found = _also(context, [late], Purpose.PRIMARY, place)
    if found:
        seconds = host.fastest_step_seconds or host.seconds_per_step or 0.0
        steps = sum(whole_steps(unit, context.project.facts) for _, unit in found)
        pace = context.project.metadata.verification.pace * seconds * steps
        context.tx.hosts.set_pace(host.id, context.now + pace)
    return found


def _first_tries(context: RequestContext, count: int) -> list[tuple[Assignment, UnitRow]]:
    """Return first tries, but for a minute not those that many new hosts are to share.

    Proven hosts would else take them all as soon as a version is made.
    """
    kept = _exams_to_come(context) if context.project.new_hosts else 0
    found = _choose(context, Purpose.PRIMARY, count + kept)
    since = context.now - _FREE_TO_ALL_SECONDS
    spare = len(found) - kept
    free = [pair for n, pair in enumerate(found) if n < spare or pair[0].created_at <= since]
    return free[:count]


def _paced(context: RequestContext) -> NoWork:
    seconds = context.host.paced_until - context.now
    reason = because(ReasonCode.PACED, seconds=math.ceil(seconds))
    return NoWork(reason=reason, retry_after_seconds=seconds)


def _exam(context: RequestContext, place: int) -> list[tuple[Assignment, UnitRow]]:
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
    if _exams_to_come(context):
        unit = _open_exam(context, len(undecided), trusted)
    if unit is None:
        unit = _joinable(context, undecided, most)
    if unit is None:
        unit = _open_exam(context, len(undecided), trusted) or _joinable(context, decided, most)
    if unit is None:
        return []
    seconds = project.median_step_seconds * whole_steps(unit, project.facts)
    tx.hosts.set_pace(host.id, now + exam_pace_seconds(seconds, host.setbacks))
    return _also(context, [unit], Purpose.EXAM, place)


def _exams_to_come(context: RequestContext) -> int:
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
    for assignment, chosen in _choose(context, Purpose.PRIMARY, 1):
        unit = chosen
        if anchors:
            possible = [chosen, *_of_smaller_chunks(context, chosen)]
            ask = partial(ask_anchor, tx, deps, project, exam=True, asking=context.host)
            anchored = next((one for one in possible if ask(one)), None)
            if anchored is None:
                return None
            unit = anchored
        tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
        _keep_chunk(context, unit)
        counting = Counting.EXAM if anchors else Counting.FLEET
        tx.units.open_exam(unit.id, counting, context.now)
        return unit
    return None


def _also(
    context: RequestContext, units: Sequence[UnitRow], purpose: Purpose, place: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return one more assignment of each unit, leased to the host."""
    pairs = []
    for unit in units:
        new = NewAssignment(unit=unit.id, purpose=purpose, created_at=context.now)
        pairs.append((context.tx.assignments.get(context.tx.assignments.add(new)), unit))
        if purpose is not Purpose.EXAM:  # nothing else is waited for
            context.tx.units.set_look_at(unit.id, None)
    return _lease(context, pairs, place)


def _choose(
    context: RequestContext, purpose: Purpose, count: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return up to `count` unsent assignments of one purpose, if it can be on the host's shard."""
    host, project = context.host, context.project
    if purpose is Purpose.PRIMARY and project.state is ProjectState.FINISHED:
        return []  # its open round waits in case the project is continued
    seeker = Seeker(
        host.id,
        host.account,
        host.network,
        host.determinism_class,
        host.trusted,
        context.now,
        host.memory_bytes,
    )
    extra = _CHOICE if host.last_shard >= 0 and purpose == Purpose.PRIMARY else 0
    candidates = context.tx.assignments.candidates(project.id, purpose, seeker, count + extra)
    chosen = pick(candidates, count, host.last_shard)
    if purpose is not Purpose.PRIMARY:
        return chosen
    found = []
    for assignment, unit in chosen:
        own = _of_a_chunk(context, unit)
        if own is not None:
            found.append((assignment, own))
    return _with_room(context, found)


def _with_room(
    context: RequestContext, pairs: list[tuple[Assignment, UnitRow]]
) -> list[tuple[Assignment, UnitRow]]:
    """Return those first tries that may be of the chunk that the host would train."""
    tx, project, metadata = context.tx, context.project, context.project.metadata
    if all(unit.chunk == FULL for _, unit in pairs):
        return pairs
    given = tx.units.count_chunks(project.id, project.epoch, project.version)
    since = context.now - _STRONG_SECONDS
    strong = tx.hosts.strong(project.id, since, whole_memory(metadata))
    found = []
    for assignment, unit in pairs:
        usual = project.median_step_seconds * unit.local_steps
        waited = context.now - assignment.created_at
        if unit.chunk != FULL and unit.batches_per_step > 1:  # a warm start trains all of it
            continue
        is_new = unit.chunk != FULL and len(tx.assignments.of_unit(unit.id)) == 1
        if not is_new or room_for_chunks(metadata, given, strong, waited, usual):
            given += is_new
            found.append((assignment, unit))
    return found


def _of_a_chunk(context: RequestContext, unit: UnitRow) -> UnitRow | None:
    """Return a unit as the host would train it: of the best chunk for its memory.

    One that other hosts have had stays of its chunk, unless it has waited for long and the host is
    too small for it. None: the host cannot have it.
    """
    host = context.host
    is_new = not unit.memory_bytes
    if unit.kind is not UnitKind.TRAIN or not (is_new or not fits(unit, host)):
        return unit
    if not _may_change_chunk(context, unit):
        return None
    link = link_of(host, context.project.facts)
    best = best_chunk(context.project.metadata, host.memory_bytes, link)
    if best is None or (best.name, best.memory_bytes) == (unit.chunk, unit.memory_bytes):
        return unit
    return msgspec.structs.replace(unit, chunk=best.name, memory_bytes=best.memory_bytes)


def _of_smaller_chunks(context: RequestContext, unit: UnitRow) -> list[UnitRow]:
    """Return a new unit as one of each smaller chunk: an anchor may have the memory for that."""
    if not _may_change_chunk(context, unit):
        return []
    sizes = smaller_chunks(context.project.metadata, unit.memory_bytes)
    return [
        msgspec.structs.replace(unit, chunk=choice.name, memory_bytes=choice.memory_bytes)
        for choice in sizes
        if unit.memory_bytes
    ]


def _keep_chunk(context: RequestContext, unit: UnitRow) -> None:
    """Store the chunk of a unit that is given away: from now on it is of that chunk.

    Hosts whose lease of another one has ended cannot report it any more: their result would look
    like a wrong one.
    """
    if not unit.memory_bytes:
        return
    tx = context.tx
    before = tx.units.get(unit.id)
    if (before.chunk, before.memory_bytes) == (unit.chunk, unit.memory_bytes):
        return
    for assignment in tx.assignments.of_unit(unit.id):
        if assignment.state is AssignmentState.EXPIRED:
            tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
    tx.units.set_chunk(unit.id, unit.chunk, unit.memory_bytes)


def _may_change_chunk(context: RequestContext, unit: UnitRow) -> bool:
    """Whether nobody computes the unit, and no result of it is here."""
    assignments = context.tx.assignments
    return not any(
        found.state in _COMPUTED or assignments.delta(found.id) is not None
        for found in assignments.of_unit(unit.id)
    )


def _lease(
    context: RequestContext, pairs: Sequence[tuple[Assignment, UnitRow]], place: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return unsent assignments, leased to the host; `place` others are in its hands already."""
    host, project = context.host, context.project
    given = []
    for number, (assignment, unit) in enumerate(pairs, start=place + 1):
        expected = expected_seconds(unit, host, project.metadata, project.facts)
        length = lease_seconds(expected, project.metadata.limits.lease_seconds, number)
        if assignment.purpose is Purpose.PRIMARY:
            _keep_chunk(context, unit)
        given.append((_give(context, assignment, unit, context.now + length), unit))
    if given and given[-1][1].shard_first != host.last_shard:
        context.tx.hosts.set_last_shard(host.id, given[-1][1].shard_first)
    return given


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


def _is_warm_start(context: RequestContext) -> bool:
    """Whether only trusted hosts train the newest version; one look-up while that may be."""
    tx, project = context.tx, context.project
    if project.version >= project.metadata.training.warm_start_versions:
        return False
    return tx.units.warm_start(project.id, project.epoch, project.version) is not None


def _no_work(context: RequestContext, found: int) -> NoWork:
    """Return why there is no more, and when to ask again."""
    project = context.project
    if project.stopped_for is not None:
        hosts = project.new_hosts + project.proven_hosts
        least, most = _ASK_AGAIN_SECONDS
        seconds = min(most, max(least, hosts / _ASKING_A_SECOND))
        return NoWork(reason=project.stopped_for, retry_after_seconds=seconds)
    if not context.host.trusted and _is_warm_start(context):
        reason = because(ReasonCode.WARM_START, version=project.version + 1)
        return NoWork(reason=reason, retry_after_seconds=30)
    if not context.host.trusted and not context.host.proven:
        return NoWork(reason=because(ReasonCode.EXAMS_FULL), retry_after_seconds=10)
    if not found and window_is_over(context):
        seconds = math.floor(context.free_seconds or 0.0)
        reason = because(ReasonCode.WINDOW_ENDS, seconds=seconds)
        return NoWork(reason=reason, retry_after_seconds=60)
    if not found and nothing_fits(context):
        reason = because(ReasonCode.ROUND_ENDS, version=project.version + 1)
        return NoWork(reason=reason, retry_after_seconds=10)
    best = best_chunk(
        project.metadata, context.host.memory_bytes, link_of(context.host, project.facts)
    )
    unsent = not found and Purpose.PRIMARY in context.tx.assignments.unsent_purposes(project.id)
    if unsent and best is not None and best.name != FULL:
        reason = because(ReasonCode.CHUNKS_GIVEN, version=project.version)
        return NoWork(reason=reason, retry_after_seconds=10)
    if unsent:
        return NoWork(reason=because(ReasonCode.ACCOUNT_SHARE_USED), retry_after_seconds=10)
    reason = because(ReasonCode.ALL_ASSIGNED, version=project.version)
    return NoWork(reason=reason, retry_after_seconds=10)
