"""upload: receive reported bytes in parts, hash them again, and let them count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.records import FileKind, StoredDelta
from pleb_coordinator.steps.access import ProjectBlobs, blobs_of
from pleb_coordinator.steps.files import remove_upload
from pleb_coordinator.steps.outcome import refuse_result, store_result, unpacked_parts
from pleb_coordinator.store.assignments import Commitment
from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.tensors.format import DeltaFormat, delta_format

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Assignment, Upload
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

_AWAITED: Final = {AssignmentState.UPLOADING, AssignmentState.EXPIRED}
"""States of an assignment whose upload still counts, or is still to be refused."""

_LINK_WEIGHT: Final = 0.3
"""Of the latest upload in the speed of a host's link."""

__all__ = [
    "UploadStatus",
    "append_part",
    "check_upload",
    "find_upload",
    "finish_upload",
    "refuse_upload",
    "upload_blobs",
    "upload_format",
    "upload_status",
]


@dataclass(frozen=True)
class UploadStatus:
    """How much of an upload has arrived."""

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
        upload_format(tx, upload)  # says so if the epoch has ended
        message = "The time for this upload has run out: ask for new work."
        raise Refusal(RefusalCode.UNKNOWN_UPLOAD, message)
    return upload


def upload_status(deps: Deps, upload: Upload) -> UploadStatus:
    """Return how much of an upload has arrived."""
    if upload.arrived:
        return UploadStatus(upload.size, upload.size, complete=True)
    return UploadStatus(deps.blobs.upload_offset(upload.token), upload.size, complete=False)


def append_part(deps: Deps, upload: Upload, offset: int, data: bytes) -> int:
    """Store the next bytes and return the new offset; touches files only.

    Raises:
        Refusal: `wrong_offset`, `wrong_size`, `storage_full`.
    """
    if upload.arrived:
        message = f"The upload is complete; it has {upload.size} bytes."
        raise Refusal(RefusalCode.WRONG_OFFSET, message)
    return deps.blobs.append_upload(upload.token, offset, data, upload.size)


def upload_format(tx: Transaction, upload: Upload) -> DeltaFormat | None:
    """Return the format that the bytes of a delta must have; None for a blob.

    Raises:
        Refusal: `epoch_ended`.
    """
    if upload.assignment is None:
        return None
    unit = tx.units.get(tx.assignments.get(upload.assignment).unit)
    project = tx.projects.get(upload.project)
    if unit.epoch != project.epoch:
        message = f"Epoch {unit.epoch} has ended: drop this result and ask for new work."
        raise Refusal(RefusalCode.EPOCH_ENDED, message)
    return delta_format(project.metadata, unit)


def check_upload(
    deps: Deps, upload: Upload, encoding: DeltaFormat | None, blobs: ProjectBlobs | None = None
) -> str:
    """Check a whole upload's bytes and store what they hold; reads all of them.

    A delta comes packed and is stored as it is, so that a round's deltas can be combined without
    having all of them in memory. Nor is this one, at any moment: a part comes after the other.

    `encoding` is what `upload_format` returned, `blobs` those of its project, if it is known.
    Nothing counts before `finish_upload`, which gets what is returned; and until then the upload's
    bytes stay, so that a process that is killed in between loses none of them.

    Returns:
        The digest of what is stored where it is sealed, else an empty text.

    Raises:
        Refusal: `wrong_offset` (not all bytes are here any more), `wrong_digest`.
        EncodingError: the bytes are no delta of this model.
    """
    if upload.assignment is None or encoding is None:
        deps.blobs.upload_to_blob(upload.token, upload.size, upload.digest)
        return ""
    with deps.blobs.temporary() as file:
        parts = deps.blobs.upload_parts(upload.token, upload.size)
        for part in unpacked_parts(encoding, parts, upload.size, upload.digest):
            file.write(part)
        encoding.check_read(partial(_read, file))
        return (blobs or ProjectBlobs(deps.blobs, {})).put_delta_file(upload.assignment, file)


def _read(file: IO[bytes], start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def upload_blobs(tx: Transaction, deps: Deps, upload: Upload) -> ProjectBlobs | None:
    """Return the blobs of an upload's project; None: it is not known here yet."""
    return blobs_of(deps, tx.projects.get(upload.project)) if upload.project else None


def finish_upload(tx: Transaction, deps: Deps, upload: Upload, sealed: str = "") -> None:
    """Store the result that a checked upload completes; doing it twice is harmless.

    `sealed` is what `check_upload` returned.

    Raises:
        Refusal: `internal`: an earlier file of the assignment is being deleted right now.
    """
    if not tx.uploads.complete(upload.token) or upload.assignment is None:
        return
    now = deps.clock()
    remove_upload(tx, deps, upload.token)
    assignment = tx.assignments.get(upload.assignment)
    # the epoch may have ended meanwhile
    current = assignment.epoch == tx.projects.get(assignment.project).epoch
    if assignment.state not in _AWAITED or not current:
        tx.tombstones.add(FileKind.DELTA, str(assignment.id), now)
        return
    if not tx.tombstones.revive(FileKind.DELTA, str(assignment.id)):
        message = "An earlier file of this assignment is being deleted: ask again in a moment."
        raise Refusal(RefusalCode.INTERNAL, message, retry_after_seconds=1)
    unit = tx.units.get(assignment.unit)
    size = delta_format(tx.projects.get(assignment.project).metadata, unit).size
    tx.assignments.put_delta(StoredDelta(assignment.id, size, None, sealed))
    commitment = Commitment(
        assignment.digest,
        assignment.size,
        assignment.loss_first,
        assignment.loss_last,
        assignment.compute_seconds or 0.0,
        now,
    )
    _note_link(tx, assignment, upload, upload.landed_at or now)
    store_result(tx, now, assignment, commitment, "uploaded")


def _note_link(tx: Transaction, assignment: Assignment, upload: Upload, now: float) -> None:
    """Follow how fast the host's deltas come, pauses included."""
    host = None if assignment.host is None else tx.hosts.of_id(assignment.host)
    if host is None or now <= upload.created_at:
        return
    measured = upload.size / (now - upload.created_at)
    before = host.upload_bytes_per_second or measured
    tx.hosts.set_upload_speed(host.id, (1 - _LINK_WEIGHT) * before + _LINK_WEIGHT * measured)


def refuse_upload(
    tx: Transaction, deps: Deps, upload: Upload, refusal: Refusal | EncodingError
) -> None:
    """Close an upload whose bytes cannot be used; a delta's unit goes to another host."""
    tx.uploads.remove(upload.token)
    remove_upload(tx, deps, upload.token)
    if upload.assignment is None:
        return
    assignment = tx.assignments.get(upload.assignment)
    if assignment.state in _AWAITED:
        is_told = upload.landed_at is None  # else its host hears of it with its next request
        refuse_result(tx, deps.clock(), assignment, refusal, is_told=is_told)
