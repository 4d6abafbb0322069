"""What a blob store does: three kinds of bytes, never mixed.

Blobs are content-addressed, and anyone may read them. Deltas, one for each assignment, are never
served. Unfinished uploads are one for each token. `local` keeps them as files of the home, `s3` as
objects of a bucket; `tests/conformance/` proves each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager
    from typing import IO

    from pleb_coordinator.blobs.signing import UploadSigner
    from pleb_coordinator.core.records import FileKind, StoredDelta

__all__ = [
    "Blobs",
    "DamagedPartError",
    "append_refusal",
    "check_whole",
    "checked_delta",
    "damaged_blob",
    "missing_blob",
    "missing_delta",
]


class DamagedPartError(Refusal):
    """A part of an upload cannot be read as it was written, though it was read again and again."""

    def __init__(self) -> None:
        message = "A part of the upload cannot be read from the blob store."
        super().__init__(RefusalCode.INTERNAL, message, retry_after_seconds=10)


class Blobs(Protocol):
    """A blob store. What a method has stored survives a power cut.

    Every method may raise `Refusal`: `storage_full`, or `internal` while the store is away.
    """

    in_files: bool
    """Whether reading is as quick as a file: an event loop need not hand it to a thread."""

    signer: UploadSigner | None
    """By what hosts may put parts of results there themselves; None: they may not."""

    def check(self) -> None:
        """Check that the store can be used. Raises `InputError`."""

    def put(self, data: bytes) -> str:
        """Store a blob and return its digest; storing it twice is harmless."""

    def free_bytes(self) -> int:
        """Return how much room there is for blobs."""

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those of the blobs that are there."""

    def size(self, digest: str) -> int:
        """Return its size in bytes. Raises `Refusal` unknown_blob."""

    def get(self, digest: str) -> bytes:
        """Return the blob's bytes, hashed again. Raises `Refusal` unknown_blob."""

    def read(self, digest: str, start: int, end: int) -> bytes:
        """Return a blob's bytes from `start` up to, not including, `end`; they are not hashed.

        Raises:
            Refusal: `unknown_blob`.
        """

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not there is fine."""

    def stored(self, kind: FileKind) -> Iterator[tuple[str, float]]:
        """Yield the names of all blobs, or of all deltas, and when each was written."""

    def delta(self, stored: StoredDelta) -> bytes:
        """Return the bytes of a delta, which are in its row or stored for its assignment.

        Raises:
            Refusal: `unknown_blob`: it is missing.
        """

    def delta_view(self, stored: StoredDelta, digest: str | None) -> memoryview:
        """Return the bytes of a delta that are read from the disk as they are looked at.

        So that the deltas of a round, which may be larger than the memory, need not be in it. They
        are hashed once here, unless `digest` is None: what was verified is what enters the model.

        Raises:
            Refusal: `unknown_blob`: it is missing, or it is not what `digest` names.
        """

    def put_delta(self, assignment: int, data: bytes) -> None:
        """Store the delta of `assignment`; doing it twice is harmless."""

    def temporary(self) -> AbstractContextManager[IO[bytes]]:
        """Return an empty file for a delta that may be larger than the memory.

        Whatever becomes of it, nothing of it is left when the context ends.
        """

    def put_delta_file(self, assignment: int, file: IO[bytes]) -> None:
        """Store the delta in a file of `temporary`, as `put_delta`; the file is used up."""

    def delete_delta(self, assignment: int) -> None:
        """Remove a delta; one that is not there is fine."""

    def upload_offset(self, token: str) -> int:
        """Return how many bytes of an upload are here."""

    def append_upload(self, token: str, offset: int, data: bytes, size: int) -> int:
        """Add bytes at the end of an upload of `size` in all; return its new length.

        Raises:
            Refusal: `wrong_offset` (the upload continues elsewhere), `wrong_size` (too many
                bytes), `storage_full`.
        """

    def upload_parts(self, token: str, size: int) -> Iterator[bytes]:
        """Yield the bytes of a finished upload, a part at a time; they are not hashed.

        Raises:
            Refusal: `wrong_offset` (not whole), `DamagedPartError`.
        """

    def upload_to_blob(self, token: str, size: int, digest: str) -> None:
        """Make a finished upload the blob `digest`. Doing it twice is harmless.

        Raises:
            Refusal: `wrong_offset` (not whole), `wrong_digest`.
        """

    def drop_upload(self, token: str) -> None:
        """Delete an upload; one that is not there is fine."""


def append_refusal(here: int, offset: int, length: int, size: int) -> Refusal | None:
    """Return why a part cannot be added to an upload that has `here` of `size` bytes, or None."""
    if offset != here:
        message = f"The upload continues at byte {here}, not {offset}."
        return Refusal(RefusalCode.WRONG_OFFSET, message)
    if here + length > size:
        message = f"The upload has {here + length} bytes; {size} were reported."
        return Refusal(RefusalCode.WRONG_SIZE, message)
    return None


def check_whole(here: int, size: int) -> None:
    """Check that an upload has all its bytes.

    Raises:
        Refusal: `wrong_offset`, to be asked again: they were all here, so another process is done
            with them, or they were lost. The host cannot help it.
    """
    if here != size:
        message = f"The upload has {here} of {size} bytes: send the rest."
        raise Refusal(RefusalCode.WRONG_OFFSET, message, retry_after_seconds=1)


def checked_delta(view: memoryview, stored: StoredDelta, digest: str | None) -> memoryview:
    """Return a delta's bytes if they are what `digest` names. Raises `Refusal` unknown_blob."""
    if digest is not None and digest_of(view) != digest:
        raise missing_delta(stored, "damaged")
    return view


def missing_blob(digest: str) -> Refusal:
    """Return the refusal of a blob that is not there."""
    message = f"There is no blob {digest[:12]}... here: get the metadata again."
    return Refusal(RefusalCode.UNKNOWN_BLOB, message)


def damaged_blob(digest: str) -> Refusal:
    """Return the refusal of a blob whose bytes have another digest."""
    message = f"Blob {digest[:12]}... is damaged on the coordinator's disk: restore it."
    return Refusal(RefusalCode.UNKNOWN_BLOB, message)


def missing_delta(stored: StoredDelta, how: str) -> Refusal:
    """Return the refusal of a delta that is missing or damaged."""
    message = (
        f"The delta of assignment {stored.assignment} is {how} on the coordinator's disk: "
        "restore it from a backup."
    )
    return Refusal(RefusalCode.UNKNOWN_BLOB, message)
