"""accept: a host's reports, cheap checks first; what is refused says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.records import (
    Assignment,
    Evaluation,
    Host,
    Project,
    Purpose,
    UnitRow,
    Upload,
    UploadKind,
    another,
)
from pleb_coordinator.core.reputation import after_refused, standing_of
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.store.interface import Commitment, Judgement, StoredDelta, Transaction
from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Receipt, ReceiptOutcome, Verdict
from pleb_shared.protocol.report import (
    DeltaResult,
    EvaluationResult,
    FailureResult,
    Report,
)
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import delta_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.steps import Deps

__all__ = ["accept_reports"]

_TAKEN: Final = {AssignmentState.LEASED, AssignmentState.EXPIRED, AssignmentState.UPLOADING}
_UNUSABLE: Final = {
    RefusalCode.WRONG_RESULT,
    RefusalCode.WRONG_BASE_VERSION,
    RefusalCode.WRONG_SIZE,
    RefusalCode.WRONG_DIGEST,
    RefusalCode.NOT_FINITE,
    RefusalCode.MALFORMED,
    RefusalCode.WRONG_SHAPE,
    RefusalCode.WRONG_DTYPE,
}
"""Faults of the result itself: the unit goes to somebody else."""


@dataclass(frozen=True)
class _Desk:
    """What stays the same while one request is served."""

    tx: Transaction
    deps: Deps
    project: Project
    host: Host
    now: float


def accept_reports(
    tx: Transaction,
    deps: Deps,
    project: Project,
    host: Host,
    reports: Sequence[Report],
    attached: Sequence[bytes],
) -> list[Receipt]:
    """Return a receipt for each report; `attached` are the deltas that came along, in order.

    A wrong report is refused in its receipt and leaves the others alone.

    Raises:
        Refusal: `malformed`: the attached deltas are not as many as announced.
    """
    desk = _Desk(tx, deps, project, host, deps.clock())
    parts = iter(_matched(reports, attached))
    return [_receipt(desk, report, next(parts)) for report in reports]


def _matched(reports: Sequence[Report], attached: Sequence[bytes]) -> list[bytes | None]:
    announced = [
        isinstance(report.result, DeltaResult) and report.result.attached for report in reports
    ]
    if sum(announced) != len(attached):
        message = f"{sum(announced)} deltas are announced as attached, {len(attached)} came."
        raise Refusal(RefusalCode.MALFORMED, message)
    parts = iter(attached)
    return [next(parts) if there else None for there in announced]


def _receipt(desk: _Desk, report: Report, data: bytes | None) -> Receipt:
    try:
        with desk.tx.savepoint():
            return _accept(desk, report, data)
    except (Refusal, EncodingError) as error:
        if error.code in _UNUSABLE:
            _reject(desk, desk.tx.assignments.get(report.assignment), error)
        return Receipt(
            assignment=report.assignment,
            outcome=ReceiptOutcome.REFUSED,
            code=error.code,
            message=str(error)[:500],
        )


def _accept(desk: _Desk, report: Report, data: bytes | None) -> Receipt:
    assignment = desk.tx.assignments.get(report.assignment)
    if assignment.host != desk.host.id or assignment.nonce != report.nonce:
        message = f"Assignment {report.assignment} is not yours: drop its result."
        raise Refusal(RefusalCode.UNKNOWN_ASSIGNMENT, message)
    unit = desk.tx.units.get(assignment.unit)
    _check_state(desk, assignment, unit)
    if (report.epoch, report.version) != (unit.epoch, unit.version):
        message = f"The unit starts from version {unit.version} of epoch {unit.epoch}."
        raise Refusal(RefusalCode.WRONG_BASE_VERSION, message)
    result = report.result
    if isinstance(result, FailureResult):
        return _give_back(desk, assignment, unit, report, result)
    if isinstance(result, EvaluationResult):
        return _evaluated(desk, assignment, unit, report, result)
    return _trained(desk, assignment, unit, report, result, data)


def _check_state(desk: _Desk, assignment: Assignment, unit: UnitRow) -> None:
    """Raise unless a report of the assignment is still of use.

    A lease that ran out is forgiven while the unit is undecided and its version the newest:
    a coordinator whose clock jumped loses nothing.
    """
    if assignment.state not in _TAKEN:
        message = "This assignment has been reported already, or was given back."
        if assignment.state == AssignmentState.CANCELLED:
            message = "This assignment was cancelled: its version is too old."
            raise Refusal(RefusalCode.LEASE_EXPIRED, message)
        raise Refusal(RefusalCode.ALREADY_REPORTED, message)
    if assignment.state != AssignmentState.EXPIRED:
        return
    current = unit.epoch == desk.project.epoch and unit.version == desk.project.version
    if unit.state != UnitState.OPEN or not (current or unit.kind != UnitKind.TRAIN):
        message = "The lease ran out and the unit was done by somebody else: drop its result."
        raise Refusal(RefusalCode.LEASE_EXPIRED, message)


def _give_back(
    desk: _Desk, assignment: Assignment, unit: UnitRow, report: Report, result: FailureResult
) -> Receipt:
    if assignment.state == AssignmentState.LEASED:
        commitment = Commitment("", 0, None, None, report.compute_seconds, desk.now)
        desk.tx.assignments.commit(assignment, AssignmentEvent.FAILED, commitment)
        _to_another(desk, assignment, unit)
        _log(desk, "failed", assignment, reason=result.reason)
    return Receipt(assignment=assignment.id, outcome=ReceiptOutcome.STORED)


def _evaluated(
    desk: _Desk, assignment: Assignment, unit: UnitRow, report: Report, result: EvaluationResult
) -> Receipt:
    if unit.kind != UnitKind.EVALUATE:
        message = f"A unit of kind {unit.kind} wants a delta, not metrics."
        raise Refusal(RefusalCode.WRONG_RESULT, message)
    commitment = Commitment("", 0, None, None, report.compute_seconds, desk.now)
    desk.tx.assignments.commit(assignment, AssignmentEvent.REPORTED, commitment)
    reported = desk.tx.assignments.get(assignment.id)
    judgement = Judgement(Verdict.VALID, 0.0, None, "the version's metrics are stored")
    desk.tx.assignments.judge(reported, AssignmentEvent.AGREED, judgement)
    if unit.state == UnitState.OPEN:
        desk.tx.units.move(unit, UnitEvent.DECIDED, desk.now, assignment.id)
    metrics = msgspec.json.encode(result.metrics)
    place = (desk.project.id, unit.epoch, unit.version, assignment.id)
    desk.tx.projects.add_evaluation(Evaluation(*place, metrics, result.examples, desk.now))
    _log(desk, "evaluated", assignment, version=unit.version, metrics=result.metrics)
    return Receipt(assignment=assignment.id, outcome=ReceiptOutcome.STORED)


def _trained(
    desk: _Desk,
    assignment: Assignment,
    unit: UnitRow,
    report: Report,
    result: DeltaResult,
    data: bytes | None,
) -> Receipt:
    _check_result(desk, unit, result)
    if assignment.state == AssignmentState.UPLOADING:
        return _upload_again(desk, assignment, result)
    commitment = Commitment(
        result.digest,
        result.size,
        result.loss_first,
        result.loss_last,
        report.compute_seconds,
        desk.now,
    )
    if desk.tx.assignments.with_delta(unit.id, result.digest) is not None:
        outcome = ReceiptOutcome.UNNEEDED
    elif data is not None:
        _check_bytes(desk, unit, result, data)
        desk.tx.assignments.put_delta(StoredDelta(assignment.id, len(data), data))
        outcome = ReceiptOutcome.STORED
    else:
        desk.tx.assignments.commit(assignment, AssignmentEvent.COMMITTED, commitment)
        _log(desk, "committed", assignment, bytes=result.size)
        return _slot(desk, assignment, result)
    desk.tx.assignments.commit(assignment, AssignmentEvent.REPORTED, commitment)
    desk.tx.units.new_result(unit.id)
    _note_speed(desk, unit, report.compute_seconds)
    _log(desk, "reported", assignment, bytes=result.size, loss=result.loss_last)
    return Receipt(assignment=assignment.id, outcome=outcome)


def _check_result(desk: _Desk, unit: UnitRow, result: DeltaResult) -> None:
    size = delta_format(desk.project.metadata, unit).size
    if result.size != size:
        message = f"The delta has {result.size} bytes; this project's has {size}."
        raise Refusal(RefusalCode.WRONG_SIZE, message)


def _check_bytes(desk: _Desk, unit: UnitRow, result: DeltaResult, data: bytes) -> None:
    if len(data) != result.size or digest_of(data) != result.digest:
        message = "The attached bytes are not those whose size and digest were reported."
        raise Refusal(RefusalCode.WRONG_DIGEST, message)
    delta_format(desk.project.metadata, unit).check(data)


def _slot(desk: _Desk, assignment: Assignment, result: DeltaResult) -> Receipt:
    """Return a receipt with an upload slot of exactly the size that was reported."""
    token = desk.deps.random_bytes(24).hex()
    until = max(assignment.lease_until or 0.0, desk.now + 60)
    desk.tx.uploads.add(
        Upload(
            token=token,
            kind=UploadKind.DELTA,
            project=desk.project.id,
            assignment=assignment.id,
            digest=result.digest,
            size=result.size,
            created_at=desk.now,
            expires_at=until,
            complete=False,
        )
    )
    return Receipt(assignment=assignment.id, outcome=ReceiptOutcome.UPLOAD, upload=token)


def _upload_again(desk: _Desk, assignment: Assignment, result: DeltaResult) -> Receipt:
    """The host has forgotten its slot; its commitment stands."""
    if result.digest != assignment.digest:
        message = "Another result was reported for this assignment already."
        raise Refusal(RefusalCode.ALREADY_REPORTED, message)
    upload = desk.tx.uploads.of_assignment(assignment.id)
    if upload is None:
        return _slot(desk, assignment, result)
    return Receipt(assignment=assignment.id, outcome=ReceiptOutcome.UPLOAD, upload=upload.token)


def _reject(desk: _Desk, assignment: Assignment, error: Refusal | EncodingError) -> None:
    """Close the assignment of an unusable result, and give its unit to somebody else."""
    if not desk.tx.assignments.move(assignment, AssignmentEvent.DISAGREED):
        return
    desk.tx.hosts.set_standing(desk.host.id, after_refused(standing_of(desk.host)))
    if assignment.state != AssignmentState.EXPIRED:
        _to_another(desk, assignment, desk.tx.units.get(assignment.unit))
    _log(desk, "refused", assignment, code=error.code, reason=str(error))


def _to_another(desk: _Desk, assignment: Assignment, unit: UnitRow) -> None:
    if assignment.purpose == Purpose.PRIMARY and not desk.host.trusted:
        for holder in filter(None, (assignment.account, assignment.network)):
            desk.tx.shares.add(unit.project, unit.epoch, unit.version, holder, -1)
    if assignment.purpose == Purpose.CALIBRATION or unit.state == UnitState.CANCELLED:
        return
    if assignment.purpose == Purpose.PRIMARY and unit.state != UnitState.OPEN:
        return
    desk.tx.assignments.add(another(assignment, desk.now))


def _note_speed(desk: _Desk, unit: UnitRow, compute_seconds: float) -> None:
    """Follow the host's speed, slowly; it only sizes the host's own leases."""
    if unit.kind != UnitKind.TRAIN or not unit.local_steps or not compute_seconds:
        return
    measured = compute_seconds / unit.local_steps
    before = desk.host.seconds_per_step
    desk.tx.hosts.set_speed(
        desk.host.id, measured if before is None else 0.8 * before + 0.2 * measured
    )


def _log(desk: _Desk, kind: str, assignment: Assignment, **detail: object) -> None:
    desk.tx.events.add(
        desk.project.id,
        desk.now,
        kind,
        unit=assignment.unit,
        host=desk.host.id,
        assignment=assignment.id,
        **detail,
    )
