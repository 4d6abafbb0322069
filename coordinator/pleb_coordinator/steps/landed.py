"""landed: results that hosts have put into the bucket themselves, checked in the background.

Once all bytes are there the host is done. The process that serves it has seen none of them: they
are read, hashed, unpacked and checked here, as `upload` does with those that it has received, and
nothing counts before. What is wrong with them the host hears as a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.blobs.store import DamagedPartError
from pleb_coordinator.steps.upload import (
    check_upload,
    finish_upload,
    refuse_upload,
    upload_blobs,
    upload_format,
)
from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.protocol.direct import DirectParts

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_coordinator.core.records import Project, Upload
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.steps.access import ProjectBlobs
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.tensors.format import DeltaFormat

__all__ = ["Checked", "Landed", "commit", "compute", "find", "is_direct", "land", "next_parts"]

_CHECK_SECONDS: Final = 6 * 3600.0
"""How long what has landed waits for a background process, at most."""
_AGAIN_SECONDS: Final = 30.0
_DAMAGED_SECONDS: Final = 300.0
"""For so long parts that cannot be read may be the bucket's fault; then they are the host's."""


@dataclass(frozen=True)
class Landed:
    """An upload to check."""

    upload: Upload
    encoding: DeltaFormat | None
    blobs: ProjectBlobs | None
    refusal: Refusal | None = None
    """Why it need not be read."""

    @property
    def key(self) -> str:
        """Name of this work among all uploads."""
        return str(self.upload.assignment)


@dataclass(frozen=True)
class Checked:
    """What was found."""

    sealed: str = ""
    """What `check_upload` returned."""
    problem: Refusal | EncodingError | None = None
    perhaps_later: bool = False
    """Whether the same bytes may be read better in a while."""


def is_direct(tx: Transaction, deps: Deps, upload: Upload) -> bool:
    """Whether the host may put this upload into the bucket: what the root key names is ours."""
    signer = deps.blobs.signer
    if signer is None or upload.assignment is None:
        return False
    return tx.projects.get(upload.project).metadata.uploads == signer.address


def next_parts(deps: Deps, upload: Upload) -> DirectParts:
    """Return what the host may put into the bucket next; asks the bucket what is there."""
    offset = upload.size if upload.arrived else deps.blobs.upload_offset(upload.token)
    if deps.blobs.signer is None:
        return DirectParts(offset=offset, parts=[])
    return deps.blobs.signer.parts(upload.token, offset, upload.size)


def land(tx: Transaction, deps: Deps, upload: Upload) -> None:
    """Let an upload be checked whose bytes are all there; doing it twice is harmless.

    Its slot and its lease last until it is: the host has done its part.
    """
    now = deps.clock()
    until = now + _CHECK_SECONDS
    if upload.assignment is not None and tx.uploads.land(upload.token, now, until):
        tx.assignments.extend_lease(upload.assignment, until)


def find(tx: Transaction, deps: Deps, project: Project, claimed: Collection[str]) -> Landed | None:
    """Return the next upload to check, or None."""
    for upload in tx.uploads.to_check(project.id, deps.clock(), len(claimed) + 1):
        if str(upload.assignment) in claimed:
            continue
        try:
            encoding = upload_format(tx, upload)
        except Refusal as refusal:  # its epoch has ended
            return Landed(upload, None, None, refusal)
        return Landed(upload, encoding, upload_blobs(tx, deps, upload))
    return None


def compute(deps: Deps, landed: Landed) -> Checked:
    """Check the bytes and store what they hold.

    Raises:
        Refusal: `internal`, `storage_full`: the bucket or the disk cannot be used now.
    """
    if landed.refusal is not None:
        return Checked(problem=landed.refusal)
    try:
        return Checked(check_upload(deps, landed.upload, landed.encoding, landed.blobs))
    except EncodingError as error:
        return Checked(problem=error)
    except Refusal as refusal:
        unreadable = isinstance(refusal, DamagedPartError)
        if unreadable or refusal.code is RefusalCode.WRONG_OFFSET:
            message = "The bytes in the bucket are not those that were reported, or damaged."
            wrong = Refusal(RefusalCode.WRONG_DIGEST, message)
            return Checked(problem=wrong, perhaps_later=True)
        if refusal.retry_after_seconds is not None:
            raise
        return Checked(problem=refusal)


def commit(tx: Transaction, deps: Deps, landed: Landed, checked: Checked) -> None:
    """Let the result count, or refuse it, or look at it again."""
    upload, now = landed.upload, deps.clock()
    began = upload.landed_at if upload.landed_at is not None else now
    if checked.problem is None:
        finish_upload(tx, deps, upload, checked.sealed)
    elif checked.perhaps_later and now < began + _DAMAGED_SECONDS:
        tx.uploads.check_at(upload.token, now + _AGAIN_SECONDS)
    else:
        refuse_upload(tx, deps, upload, checked.problem)
