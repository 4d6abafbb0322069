"""accept: check a host's reports, cheapest check first; a refused report gets its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.holdout import version_to_restore
from pleb_coordinator.core.records import (
    Assignment,
    Evaluation,
    Project,
    RestoreCause,
    Showing,
    StoredDelta,
    UnitRow,
    Upload,
)
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.steps.access import blobs_of
from pleb_coordinator.steps.activity import points, settle
from pleb_coordinator.steps.outcome import (
    await_upload,
    fail_assignment,
    log_assignment,
    refuse_result,
    store_result,
    unpacked_delta,
)
from pleb_coordinator.steps.own import still_own
from pleb_coordinator.store.assignments import Commitment, Judgement
from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Receipt, ReceiptOutcome, Verdict
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.report import (
    DeltaResult,
    EvaluationResult,
    FailureResult,
    Report,
)
from pleb_shared.protocol.showcase import fault_of
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import delta_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.steps import RequestContext
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.tensors.format import DeltaFormat

__all__ = ["accept_reports"]

_REPORTABLE: Final = {AssignmentState.LEASED, AssignmentState.EXPIRED, AssignmentState.UPLOADING}
_COMPARABLE: Final = {
    UnitState.OPEN,
    UnitState.VALID,
    UnitState.APPLIED,
    UnitState.LATE,
    UnitState.CREDITED,
}
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
"""Faults of the result itself: they end the assignment. Others leave it as it is."""
_SHORTEST_SLOT_SECONDS: Final = 60.0
"""Of an upload slot, even if the lease ends sooner."""


def accept_reports(
    context: RequestContext, reports: Sequence[Report], attached: Sequence[bytes]
) -> list[Receipt]:
    """Return a receipt for each report; `attached` are the deltas sent along, in order.

    A wrong report is refused in its receipt; the other reports are not affected.

    Raises:
        Refusal: `malformed`: the number of attached deltas is not the one announced.
    """
    announced = [
        isinstance(report.result, DeltaResult) and report.result.attached for report in reports
    ]
    if sum(announced) != len(attached):
        message = f"{sum(announced)} deltas are announced as attached, {len(attached)} came."
        raise Refusal(RefusalCode.MALFORMED, message)
    deltas = iter(attached)
    return [
        _receipt(context, report, next(deltas) if has_delta else None)
        for report, has_delta in zip(reports, announced, strict=True)
    ]


def _receipt(context: RequestContext, report: Report, data: bytes | None) -> Receipt:
    tx = context.tx
    try:
        with tx.savepoint():
            return _accept(context, report, data)
    except (Refusal, EncodingError) as error:
        if error.code in _UNUSABLE:
            refuse_result(tx, context.now, tx.assignments.get(report.assignment), error)
        return Receipt(
            assignment=report.assignment,
            outcome=ReceiptOutcome.REFUSED,
            code=error.code,
            message=str(error)[:500],
        )


def _accept(context: RequestContext, report: Report, data: bytes | None) -> Receipt:
    assignment = context.tx.assignments.get(report.assignment)
    if assignment.host != context.host.id or assignment.nonce != report.nonce:
        message = "This assignment belongs to another host: drop its result."
        raise Refusal(RefusalCode.UNKNOWN_ASSIGNMENT, message)
    unit = context.tx.units.get(assignment.unit)
    if unit.epoch != context.project.epoch:
        message = f"Epoch {unit.epoch} has ended: drop its results and ask for new work."
        raise Refusal(RefusalCode.EPOCH_ENDED, message)
    _check_state(context, assignment, unit)
    if (report.epoch, report.version) != (unit.epoch, unit.version):
        message = f"The unit starts from version {unit.version} of epoch {unit.epoch}."
        raise Refusal(RefusalCode.WRONG_BASE_VERSION, message)
    match report.result:
        case FailureResult() as result:
            # a lease that ran out has been given to another host already
            if assignment.state == AssignmentState.LEASED:
                ended = _commitment(context, report)
                fail_assignment(context.tx, context.now, assignment, ended, result.reason)
            return Receipt(assignment=assignment.id, outcome=ReceiptOutcome.STORED)
        case EvaluationResult() as result:
            return _evaluated(context, assignment, unit, report, result)
        case DeltaResult() as result:
            return _trained(context, assignment, unit, report, result, data)


def _check_state(context: RequestContext, assignment: Assignment, unit: UnitRow) -> None:
    """Raise unless a report of the assignment can still be used.

    A result that comes after its lease ran out is accepted as long as it can be compared with
    others: no finished unit is lost because a PC was off, or the coordinator's clock has jumped.
    """
    if assignment.state not in _REPORTABLE:
        message = "This assignment has been reported already, or was given back."
        if assignment.state == AssignmentState.CANCELLED:
            message = "This assignment was cancelled: its result is not needed any more."
            raise Refusal(RefusalCode.LEASE_EXPIRED, message)
        raise Refusal(RefusalCode.ALREADY_REPORTED, message)
    if assignment.state != AssignmentState.EXPIRED:
        return
    if not _can_be_compared(context, unit):
        message = "The lease ran out and another host has done the unit: drop its result."
        raise Refusal(RefusalCode.LEASE_EXPIRED, message)


def _can_be_compared(context: RequestContext, unit: UnitRow) -> bool:
    """Whether a late result can earn credit.

    Of an old version's results only the one that counts is kept, and not for ever.
    """
    if unit.kind != UnitKind.TRAIN:
        return unit.state is UnitState.OPEN
    if context.project.metadata.data.own is not None:  # nobody else's can be compared with it
        return still_own(context, unit)
    if unit.state not in _COMPARABLE:
        return False
    if unit.version >= context.project.oldest_accepted:
        return True
    return unit.canonical is not None and context.tx.assignments.delta(unit.canonical) is not None


def _evaluated(
    context: RequestContext,
    assignment: Assignment,
    unit: UnitRow,
    report: Report,
    result: EvaluationResult,
) -> Receipt:
    """Store the metrics; only trusted hosts get evaluations, so they are valid at once."""
    tx, now = context.tx, context.now
    if unit.kind != UnitKind.EVALUATE:
        message = f"A unit of kind {unit.kind} needs a delta, not metrics."
        raise Refusal(RefusalCode.WRONG_RESULT, message)
    tx.assignments.commit(assignment, AssignmentEvent.REPORTED, _commitment(context, report))
    reported = tx.assignments.get(assignment.id)
    evaluated = because(ReasonCode.EVALUATED, version=unit.version)
    judgement = Judgement(Verdict.VALID, 0.0, None, evaluated)
    tx.assignments.judge(reported, AssignmentEvent.AGREED, judgement)
    if unit.state == UnitState.OPEN:
        tx.units.move(unit, UnitEvent.DECIDED, now, assignment.id)
    place = (context.project.id, unit.epoch, unit.version, assignment.id)
    tx.projects.add_evaluation(Evaluation(*place, result.metrics, result.examples, now))
    fault = _keep_showing(context, unit, result)
    _watch_holdout(tx, context.project)
    settle(tx, context.project.id, now)
    detail: dict[str, object] = {"version": unit.version, "metrics": result.metrics}
    if fault:
        detail["showcase_refused"] = fault
    log_assignment(tx, now, "evaluated", assignment, **detail)
    return Receipt(assignment=assignment.id, outcome=ReceiptOutcome.STORED)


def _keep_showing(context: RequestContext, unit: UnitRow, result: EvaluationResult) -> str:
    """Store what the version says or sees; return why it is left out, which costs no metrics.

    A host whose metadata are older answers an older card: that is left out in silence.
    """
    project, shown = context.project, result.showcase
    showcase = project.metadata.showcase
    if shown is UNSET or showcase is UNSET or unit.epoch != project.epoch:
        return ""
    if shown.card != showcase.card.digest:
        return ""
    fault = fault_of(showcase, shown)
    if not fault:
        place = (project.id, unit.epoch, unit.version)
        context.tx.projects.add_showing(Showing(*place, shown.card, shown, context.now))
    return fault


def _watch_holdout(tx: Transaction, project: Project) -> None:
    """Ask for the last good version if the newest evaluations have lost too much."""
    restores = tx.versions.restores(project.id, project.epoch)
    allowed = project.metadata.verification.max_holdout_regression
    found = version_to_restore(points(tx, project), restores, allowed)
    if found is not None:
        tx.projects.set_restoring(project.id, found, RestoreCause.HOLDOUT)


def _trained(
    context: RequestContext,
    assignment: Assignment,
    unit: UnitRow,
    report: Report,
    result: DeltaResult,
    data: bytes | None,
) -> Receipt:
    """Store a delta, or open an upload slot for it; equal bytes are needed only once per unit."""
    tx, now = context.tx, context.now
    encoding = delta_format(context.project.metadata, unit)
    most = encoding.packed_most
    if result.size > most:
        message = f"The delta has {result.size} bytes; this project's has {most} at most."
        raise Refusal(RefusalCode.WRONG_SIZE, message)
    if assignment.state == AssignmentState.UPLOADING:
        return _slot_again(context, assignment, result)
    commitment = _commitment(context, report)
    if tx.assignments.with_delta(unit.id, result.digest) is not None:
        outcome = ReceiptOutcome.UNNEEDED
    elif data is not None and encoding.size <= LIMITS.attached_unpacked_bytes:
        delta = _unpacked(encoding, result, data)
        stored, sealed = blobs_of(context.deps, context.project).sealed_delta(delta)
        tx.assignments.put_delta(StoredDelta(assignment.id, len(delta), stored, sealed))
        outcome = ReceiptOutcome.STORED
    else:
        await_upload(tx, now, assignment, commitment)
        return _slot(context, assignment, result)
    store_result(tx, now, assignment, commitment, "reported")
    return Receipt(assignment=assignment.id, outcome=outcome)


def _commitment(context: RequestContext, report: Report) -> Commitment:
    """Return what the report says of its result; only a delta has digest, size and losses."""
    seconds, now = report.compute_seconds, context.now
    match report.result:
        case DeltaResult() as found:
            losses = (found.loss_first, found.loss_last)
            return Commitment(found.digest, found.size, *losses, seconds, now)
        case _:
            return Commitment("", 0, None, None, seconds, now)


def _unpacked(encoding: DeltaFormat, result: DeltaResult, data: bytes) -> bytes:
    """Return the checked delta in the attached bytes `data`, which are packed."""
    if len(data) != result.size:
        message = f"{len(data)} bytes are attached; {result.size} were reported."
        raise Refusal(RefusalCode.WRONG_SIZE, message)
    return unpacked_delta(encoding, data, result.digest)


def _slot(context: RequestContext, assignment: Assignment, result: DeltaResult) -> Receipt:
    """Return a receipt with an upload slot of exactly the size that was reported.

    The lease lasts as long as the slot. A shorter one would run out during the upload, and the
    unit would go to another host although its result is on the way.
    """
    token = context.deps.random_bytes(24).hex()
    until = max(assignment.lease_until or 0.0, context.now + _SHORTEST_SLOT_SECONDS)
    context.tx.assignments.extend_lease(assignment.id, until)
    context.tx.uploads.add(
        Upload(
            token=token,
            project=context.project.id,
            assignment=assignment.id,
            digest=result.digest,
            size=result.size,
            created_at=context.now,
            expires_at=until,
            complete=False,
        )
    )
    return Receipt(assignment=assignment.id, outcome=ReceiptOutcome.UPLOAD, upload=token)


def _slot_again(context: RequestContext, assignment: Assignment, result: DeltaResult) -> Receipt:
    """Return the slot of a host that has lost it; the host stays committed to its digest."""
    if result.digest != assignment.digest:
        message = "Another result was reported for this assignment already."
        raise Refusal(RefusalCode.ALREADY_REPORTED, message)
    upload = context.tx.uploads.of_assignment(assignment.id)
    if upload is None:
        return _slot(context, assignment, result)
    return Receipt(assignment=assignment.id, outcome=ReceiptOutcome.UPLOAD, upload=upload.token)
