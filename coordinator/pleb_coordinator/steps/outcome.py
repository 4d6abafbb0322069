"""What follows when an assignment ends: its result is stored or refused, or another host gets it.

`accept` (reports, with or without their delta), `upload` (deltas that arrive later) and `expire`
(leases that ran out) all end assignments here, so the rules hold for each of them:

- An assignment uses its account's and network's share of the round from the moment it is issued.
  It gives that share back if it ends without a result, and uses it again if the result arrives
  after the lease ran out.
- A first try or an evaluation goes to another host while its unit is open and has no result, once
  per assignment: when a lease runs out, not again when the late result turns out to be unusable.
  For all other units `verify` decides who is asked next.
- Every stored training result updates the speed of its host, however its delta travelled.
- A failure or a lease that ran out marks the host; a late result clears that mark. A result that
  no unit of the project can have (not finite, of another size) counts as wrong; bytes that got
  damaged on the way count as a failure.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.chunks import whole_steps
from pleb_coordinator.core.records import Assignment, Host, NewAssignment, Purpose, UnitRow
from pleb_coordinator.core.reputation import after_delivered, after_undelivered, standing_of
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.core.voices import identifies
from pleb_coordinator.steps.conviction import convict
from pleb_coordinator.store.assignments import Judgement
from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pleb_coordinator.store.assignments import Commitment
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.reasons import Reason
    from pleb_shared.tensors.format import DeltaFormat

__all__ = [
    "await_upload",
    "cancel_unit",
    "expire_lease",
    "fail_assignment",
    "log_assignment",
    "refuse_result",
    "store_result",
    "unpacked_delta",
    "unpacked_parts",
]

_WRONG: Final = {
    RefusalCode.WRONG_SIZE,
    RefusalCode.NOT_FINITE,
    RefusalCode.MALFORMED,
    RefusalCode.WRONG_SHAPE,
    RefusalCode.WRONG_DTYPE,
}
"""Faults of a result that its host made on purpose or with broken hardware."""
_UNREPORTED: Final = {AssignmentState.UNSENT, AssignmentState.LEASED, AssignmentState.UPLOADING}
_FEW: Final = 16
_LOOK_SECONDS: Final = 0.05
"""For each host of a large exam: so long its results wait to be looked at together."""
_LOOK_SHARE: Final = 0.05
"""Or for this part of the time that it took: its host learns of a verdict with its next request."""
_LOOK_MOST_SECONDS: Final = 180.0
"""What a host claims cannot hold an exam up for longer."""
_SPEED_WEIGHT: Final = 0.2
"""Of the newest measurement: one unit computed during a game hardly changes the next lease."""


def unpacked_delta(encoding: DeltaFormat, packed: bytes, digest: str) -> bytes:
    """Return the delta that came as `packed`, once it is what the host has committed to.

    Raises:
        Refusal: `wrong_digest`: it is not, or it cannot be unpacked, as if damaged on the way.
        EncodingError: the host has committed to what is no delta of this model.
    """
    delta = b"".join(unpacked_parts(encoding, [packed], len(packed), digest))
    encoding.check(delta)
    return delta


def unpacked_parts(
    encoding: DeltaFormat, parts: Iterable[bytes], packed_bytes: int, digest: str
) -> Iterator[bytes]:
    """Yield the delta that came packed in `parts`; its numbers are not checked.

    It is what the host has committed to only if the iterator ends.

    Raises:
        Refusal, EncodingError: as `unpacked_delta`.
    """
    hasher = hashlib.sha256()
    try:
        for part in encoding.unpack_parts(parts, packed_bytes):
            hasher.update(part)
            yield part
    except EncodingError as error:
        if error.code is RefusalCode.WRONG_SIZE:  # a whole stream, with its checksum
            raise
        message = f"The received bytes are not the delta that was reported. {error}"
        raise Refusal(RefusalCode.WRONG_DIGEST, message) from error
    if hasher.hexdigest() != digest:
        message = "The received bytes do not have the digest that was reported."
        raise Refusal(RefusalCode.WRONG_DIGEST, message)


def store_result(
    tx: Transaction, now: float, assignment: Assignment, commitment: Commitment, kind: str
) -> None:
    """Record a training or calibration result whose delta is stored; `verify` is due for it.

    `kind` is the event that is logged: `reported`, or `uploaded` for a delta that came later.
    """
    unit = tx.units.get(assignment.unit)
    tx.assignments.commit(assignment, AssignmentEvent.REPORTED, commitment)
    _use_share_again(tx, assignment, unit)
    _make_due(tx, now, assignment, unit, commitment.compute_seconds)
    host = _host_of(tx, assignment)
    late = assignment.state == AssignmentState.EXPIRED
    tx.hosts.set_standing(host.id, after_delivered(standing_of(host), late=late))
    _note_speed(tx, assignment, unit, commitment.compute_seconds)
    detail = {"bytes": commitment.size, "loss": commitment.loss_last}
    log_assignment(tx, now, kind, assignment, **detail)


def _make_due(
    tx: Transaction, now: float, assignment: Assignment, unit: UnitRow, seconds: float
) -> None:
    """Let `verify` look at the unit: soon, if many new hosts share it.

    A look reads all results. One for each of a thousand would cost a million rows. The result took
    its host `seconds`.
    """
    sharing = 0
    if assignment.purpose is Purpose.EXAM and not unit.disputed:
        sharing = tx.assignments.exam_hosts(unit.id)
    if sharing > _FEW:
        wait = max(_LOOK_SECONDS * sharing, _LOOK_SHARE * seconds)
        tx.units.look_by(unit.id, now + min(wait, _LOOK_MOST_SECONDS))
    else:
        tx.units.make_due(unit.id)


def await_upload(
    tx: Transaction, now: float, assignment: Assignment, commitment: Commitment
) -> None:
    """Record a report whose delta is still to be uploaded."""
    tx.assignments.commit(assignment, AssignmentEvent.COMMITTED, commitment)
    _use_share_again(tx, assignment, tx.units.get(assignment.unit))
    log_assignment(tx, now, "committed", assignment, bytes=commitment.size)


def refuse_result(
    tx: Transaction,
    now: float,
    assignment: Assignment,
    error: Refusal | EncodingError,
    *,
    is_told: bool = True,
) -> None:
    """Close the assignment of a result that cannot be used; its unit goes to another host.

    `is_told`: the host gets the refusal as an answer; else as a verdict.
    """
    reason = because(ReasonCode.UNUSABLE_RESULT, text=str(error))
    if error.code in _WRONG:
        convict(tx, now, assignment, reason, by_trusted=True)
    elif is_told:
        if tx.assignments.move(assignment, AssignmentEvent.DISAGREED):
            _mark_undelivered(tx, assignment, failed=True)
    else:
        judgement = Judgement(Verdict.INVALID, 0.0, None, reason)
        if tx.assignments.judge(assignment, AssignmentEvent.DISAGREED, judgement):
            _mark_undelivered(tx, assignment, failed=True)
    if assignment.state != AssignmentState.EXPIRED:
        _give_to_another(tx, now, assignment, _host_of(tx, assignment))
    log_assignment(tx, now, "refused", assignment, code=error.code, reason=str(error))


def cancel_unit(tx: Transaction, unit: UnitRow, now: float, why: Reason) -> None:
    """End a unit and all its assignments; nothing counts for or against a host any more."""
    tx.units.move(unit, UnitEvent.CANCELLED, now, None)
    tx.units.looked_at(unit.id, unit.revision)
    for assignment in tx.assignments.of_unit(unit.id):
        if assignment.state == AssignmentState.REPORTED:
            tx.assignments.set_aside(assignment, why)
        elif assignment.state in _UNREPORTED:
            tx.assignments.move(assignment, AssignmentEvent.CANCELLED)


def fail_assignment(
    tx: Transaction, now: float, assignment: Assignment, commitment: Commitment, reason: str
) -> None:
    """Close an assignment that its host could not compute; its unit goes to another host."""
    if tx.assignments.commit(assignment, AssignmentEvent.FAILED, commitment):
        _mark_undelivered(tx, assignment, failed=True)
        _give_to_another(tx, now, assignment, _host_of(tx, assignment))
        log_assignment(tx, now, "failed", assignment, reason=reason)


def expire_lease(
    tx: Transaction, now: float, assignment: Assignment, *, blame: bool = True
) -> None:
    """End a lease that ran out, or one that nobody is to `blame` for; its unit goes to another."""
    if not tx.assignments.move(assignment, AssignmentEvent.EXPIRED):
        return
    if blame:
        _mark_undelivered(tx, assignment, failed=False)
    _give_to_another(tx, now, assignment, _host_of(tx, assignment))
    log_assignment(tx, now, "expired", assignment)


def log_assignment(
    tx: Transaction, now: float, kind: str, assignment: Assignment, **detail: object
) -> None:
    """Append an event about an assignment to the project's log."""
    tx.events.add(
        assignment.project,
        now,
        kind,
        unit=assignment.unit,
        host=assignment.host,
        assignment=assignment.id,
        **detail,
    )


def _host_of(tx: Transaction, assignment: Assignment) -> Host:
    """Return the host that has the assignment, as earlier results of this transaction left it."""
    if assignment.host is None:
        message = f"Assignment {assignment.id} was never issued."
        raise LookupError(message)
    return tx.hosts.get(assignment.host)


def _give_to_another(tx: Transaction, now: float, assignment: Assignment, host: Host) -> None:
    unit = tx.units.get(assignment.unit)
    _count_share(tx, assignment, unit, host, -1)
    if assignment.purpose == Purpose.CALIBRATION:
        return  # its host gets a new one when it asks
    if assignment.purpose not in {Purpose.PRIMARY, Purpose.EVALUATION}:
        tx.units.make_due(unit.id)
    elif unit.state == UnitState.OPEN and not tx.assignments.answered(unit.id):
        again = NewAssignment(
            unit=unit.id,
            purpose=assignment.purpose,
            created_at=now,
            trusted_only=assignment.trusted_only,
        )
        tx.assignments.add(again)


def _mark_undelivered(tx: Transaction, assignment: Assignment, *, failed: bool) -> None:
    """Count a failure or a lease that ran out: a host must not choose what it is seen computing."""
    host = _host_of(tx, assignment)
    rules = tx.projects.get(assignment.project).metadata.verification
    tx.hosts.set_standing(host.id, after_undelivered(standing_of(host), rules, failed=failed))


def _use_share_again(tx: Transaction, assignment: Assignment, unit: UnitRow) -> None:
    if assignment.state == AssignmentState.EXPIRED:
        _count_share(tx, assignment, unit, _host_of(tx, assignment), +1)


def _count_share(
    tx: Transaction, assignment: Assignment, unit: UnitRow, host: Host, change: int
) -> None:
    """Only first tries use shares, and only those of hosts that are not trusted: as in `issue`."""
    if assignment.purpose == Purpose.PRIMARY and not host.trusted:
        for holder in (assignment.account, *filter(identifies, [assignment.network])):
            tx.shares.add(unit.project, unit.epoch, unit.version, holder, change)


def _note_speed(
    tx: Transaction, assignment: Assignment, unit: UnitRow, compute_seconds: float
) -> None:
    """Follow the host's speed: s <- (1 - w) s + w t / H, for t seconds and H steps.

    H is the local steps of a unit of the whole model, fewer where a chunk's cost less.

    It sizes the host's leases, and nothing else depends on it.
    """
    if unit.kind != UnitKind.TRAIN or not unit.local_steps or not compute_seconds:
        return
    host = _host_of(tx, assignment)
    measured = compute_seconds / whole_steps(unit, tx.projects.get(unit.project).facts)
    before = measured if host.seconds_per_step is None else host.seconds_per_step
    speed = (1 - _SPEED_WEIGHT) * before + _SPEED_WEIGHT * measured
    tx.hosts.set_speed(host.id, speed)
