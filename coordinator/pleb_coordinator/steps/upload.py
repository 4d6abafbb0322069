"""upload: bytes that were promised arrive in parts, are hashed again, and count from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.records import Assignment, Purpose, Upload, another
from pleb_coordinator.core.reputation import after_refused, standing_of
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.store.interface import Commitment, StoredDelta, Transaction
from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.tensors.format import DeltaFormat, delta_format

if TYPE_CHECKING:
    from pleb_coordinator.steps import Deps

__all__ = [
    "UploadStatus",
    "append_part",
    "check_upload",
    "find_upload",
    "finish_upload",
    "refuse_upload",
    "upload_format",
    "upload_status",
]


@dataclass(frozen=True)
class UploadStatus:
    """Where an upload goes on."""

    offset: int
    length: int
    complete: bool


def find_upload(tx: Transaction, deps: Deps, token: str) -> Upload:
    """Return the slot.

    Raises:
        Refusal: `unknown_upload`, also when it has run out.
    """
    upload = tx.uploads.get(token)
    if not upload.complete and upload.expires_at <= deps.clock():
        message = "The time for this upload has run out: ask for new work."
        raise Refusal(RefusalCode.UNKNOWN_UPLOAD, message)
    return upload


def upload_status(deps: Deps, upload: Upload) -> UploadStatus:
    """Return how much is here."""
    if upload.complete:
        return UploadStatus(upload.size, upload.size, complete=True)
    return UploadStatus(deps.blobs.upload_offset(upload.token), upload.size, complete=False)


def append_part(deps: Deps, upload: Upload, offset: int, data: bytes) -> int:
    """Store the next bytes and return the new offset; touches files only.

    Raises:
        Refusal: `wrong_offset`, `wrong_size`, `storage_full`.
    """
    if upload.complete:
        message = f"The upload is complete; it has {upload.size} bytes."
        raise Refusal(RefusalCode.WRONG_OFFSET, message)
    return deps.blobs.append_upload(upload.token, offset, data, upload.size)


def upload_format(tx: Transaction, upload: Upload) -> DeltaFormat | None:
    """Return the format that the bytes of a delta must have; None for a blob."""
    if upload.assignment is None:
        return None
    unit = tx.units.get(tx.assignments.get(upload.assignment).unit)
    return delta_format(tx.projects.get(upload.project).metadata, unit)


def check_upload(deps: Deps, upload: Upload, encoding: DeltaFormat | None) -> None:
    """Check a whole upload's bytes and put them in their place; reads all of them.

    `encoding` is what `upload_format` returned. Nothing counts before `finish_upload`.

    Raises:
        Refusal: `wrong_size`, `wrong_digest`.
        EncodingError: the bytes are no delta of this model.
    """
    if upload.assignment is None or encoding is None:
        deps.blobs.upload_to_blob(upload.token, upload.size, upload.digest)
        return
    data = deps.blobs.upload_bytes(upload.token, upload.size, upload.digest)
    encoding.check(data)
    deps.blobs.upload_to_delta(upload.token, upload.assignment)


def finish_upload(tx: Transaction, deps: Deps, upload: Upload) -> None:
    """Let a checked upload count; doing it twice is harmless."""
    if not tx.uploads.complete(upload.token) or upload.assignment is None:
        return
    now = deps.clock()
    assignment = tx.assignments.get(upload.assignment)
    if assignment.state not in {AssignmentState.UPLOADING, AssignmentState.EXPIRED}:
        return
    tx.assignments.put_delta(StoredDelta(assignment.id, upload.size, None))
    tx.assignments.commit(assignment, AssignmentEvent.REPORTED, _said(assignment, now))
    tx.units.new_result(assignment.unit)
    _log(tx, now, "uploaded", assignment, bytes=upload.size)


def refuse_upload(
    tx: Transaction, deps: Deps, upload: Upload, refusal: Refusal | EncodingError
) -> None:
    """Close an upload whose bytes cannot be used, and give the unit to somebody else."""
    tx.uploads.remove(upload.token)
    deps.blobs.drop_upload(upload.token)
    if upload.assignment is None:
        return
    assignment = tx.assignments.get(upload.assignment)
    if assignment.state != AssignmentState.UPLOADING or assignment.host is None:
        return
    tx.assignments.move(assignment, AssignmentEvent.DISAGREED)
    host = tx.hosts.get(assignment.host)
    tx.hosts.set_standing(host.id, after_refused(standing_of(host)))
    unit = tx.units.get(assignment.unit)
    wanted = unit.state == UnitState.OPEN or assignment.purpose == Purpose.AUDIT
    if wanted and assignment.purpose != Purpose.CALIBRATION:
        tx.assignments.add(another(assignment, deps.clock()))
    detail = {"code": refusal.code, "reason": str(refusal)}
    _log(tx, deps.clock(), "refused", assignment, **detail)


def _said(assignment: Assignment, now: float) -> Commitment:
    return Commitment(
        assignment.digest,
        assignment.size,
        assignment.loss_first,
        assignment.loss_last,
        assignment.compute_seconds or 0.0,
        now,
    )


def _log(tx: Transaction, now: float, kind: str, assignment: Assignment, **detail: object) -> None:
    tx.events.add(
        assignment.project,
        now,
        kind,
        unit=assignment.unit,
        host=assignment.host,
        assignment=assignment.id,
        **detail,
    )
