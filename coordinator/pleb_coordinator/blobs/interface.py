"""What blob stores can do; `tests/conformance/` proves every implementation.

Three kinds of bytes, never mixed: blobs (content-addressed, anyone may read them), deltas (one
for each assignment, never served), uploads under way (one for each token).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Blobs"]


class Blobs(Protocol):
    """Bytes on durable storage: what a method has stored survives a power cut."""

    def put(self, data: bytes) -> str:
        """Store a blob and return its digest; storing it twice is harmless."""

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""

    def size(self, digest: str) -> int:
        """Return its size in bytes. Raises `Refusal` unknown_blob."""

    def get(self, digest: str) -> bytes:
        """Return the blob's bytes, hashed again. Raises `Refusal` unknown_blob."""

    def open_range(self, digest: str, start: int = 0) -> BinaryIO:
        """Return the blob's file, opened at `start`. Raises `Refusal` unknown_blob."""

    def path(self, digest: str) -> Path:
        """Return the blob's file, for sending it. Raises `Refusal` unknown_blob."""

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not there is fine."""

    def put_delta(self, assignment: int, data: bytes) -> None:
        """Store a delta that came without an upload."""

    def delta(self, assignment: int) -> bytes:
        """Return a delta. Raises `Refusal` unknown_blob."""

    def delete_delta(self, assignment: int) -> None:
        """Remove a delta; one that is not there is fine."""

    def upload_offset(self, token: str) -> int:
        """Return how many bytes of an upload are here."""

    def append_upload(self, token: str, offset: int, data: bytes, size: int) -> int:
        """Add bytes at the end of an upload of `size` in all; return its new length.

        Raises:
            Refusal: `wrong_offset` (the upload goes on elsewhere), `wrong_size` (too many
                bytes), `storage_full`.
        """

    def upload_bytes(self, token: str, size: int, digest: str) -> bytes:
        """Return a finished upload, made durable.

        Raises:
            Refusal: `wrong_size` (not whole), `wrong_digest`.
        """

    def upload_to_blob(self, token: str, size: int, digest: str) -> None:
        """Make a finished upload the blob `digest`. Doing it twice is harmless.

        Raises:
            Refusal: as `upload_bytes`.
        """

    def upload_to_delta(self, token: str, assignment: int) -> None:
        """Make a finished upload the delta of `assignment`. Doing it twice is harmless."""

    def drop_upload(self, token: str) -> None:
        """Throw an upload away; one that is not there is fine."""
