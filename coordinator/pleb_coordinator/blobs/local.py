"""Blobs, deltas and uploads as files of one data directory.

    blobs/ab/abcd...      content-addressed; the name is the SHA-256 of the bytes
    deltas/12/1234567     one for each assignment (the folder is the number's last two digits)
    uploads/HASH          named by its token's hash; grows from its first byte to its last

A file that is there is whole: it is written under another name, synced, renamed, and then
its directory is synced.
"""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_system.durable import rename_durably, sync_directory, write_durably

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LocalBlobs"]

_READ_BYTES: Final = 2**20


class LocalBlobs:
    """Implements `blobs.interface.Blobs` below a directory that exists."""

    def __init__(self, home: Path) -> None:
        self._blobs = home / "blobs"
        self._deltas = home / "deltas"
        self._uploads = home / "uploads"
        for folder in (self._blobs, self._deltas, self._uploads):
            folder.mkdir(exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store a blob and return its digest; storing it twice is harmless."""
        digest = digest_of(data)
        path = self._blob(digest)
        if not path.exists():
            _write(path, data)
        return digest

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self._blob(digest).exists()

    def size(self, digest: str) -> int:
        """Return its size in bytes. Raises `Refusal` unknown_blob."""
        return self.path(digest).stat().st_size

    def get(self, digest: str) -> bytes:
        """Return the blob's bytes, hashed again. Raises `Refusal` unknown_blob."""
        data = self.path(digest).read_bytes()
        if digest_of(data) != digest:
            message = f"Blob {digest[:12]}... is damaged on the coordinator's disk: restore it."
            raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
        return data

    def open_range(self, digest: str, start: int = 0) -> BinaryIO:
        """Return the blob's file, opened at `start`. Raises `Refusal` unknown_blob."""
        file = self.path(digest).open("rb")
        file.seek(start)
        return file

    def path(self, digest: str) -> Path:
        """Return the blob's file, for sending it. Raises `Refusal` unknown_blob."""
        path = self._blob(digest)
        if not path.exists():
            message = f"There is no blob {digest[:12]}... here: get the metadata again."
            raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
        return path

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not there is fine."""
        self._blob(digest).unlink(missing_ok=True)

    def put_delta(self, assignment: int, data: bytes) -> None:
        """Store a delta that came without an upload."""
        _write(self._delta(assignment), data)

    def delta(self, assignment: int) -> bytes:
        """Return a delta. Raises `Refusal` unknown_blob."""
        try:
            return self._delta(assignment).read_bytes()
        except FileNotFoundError as error:
            message = f"The delta of assignment {assignment} is gone from the coordinator's disk."
            raise Refusal(RefusalCode.UNKNOWN_BLOB, message) from error

    def delete_delta(self, assignment: int) -> None:
        """Remove a delta; one that is not there is fine."""
        self._delta(assignment).unlink(missing_ok=True)

    def upload_offset(self, token: str) -> int:
        """Return how many bytes of an upload are here."""
        path = self._upload(token)
        return path.stat().st_size if path.exists() else 0

    def append_upload(self, token: str, offset: int, data: bytes, size: int) -> int:
        """Add bytes at the end of an upload of `size` in all; return its new length.

        Raises:
            Refusal: `wrong_offset` (the upload goes on elsewhere), `wrong_size` (too many
                bytes), `storage_full`.
        """
        here = self.upload_offset(token)
        if offset != here:
            message = f"The upload goes on at byte {here}, not {offset}."
            raise Refusal(RefusalCode.WRONG_OFFSET, message)
        if here + len(data) > size:
            message = f"The upload has {here + len(data)} bytes; {size} were reported."
            raise Refusal(RefusalCode.WRONG_SIZE, message)
        try:
            with self._upload(token).open("ab") as file:
                file.write(data)
        except OSError as error:
            raise _translated(error) from error
        return here + len(data)

    def upload_bytes(self, token: str, size: int, digest: str) -> bytes:
        """Return a finished upload, made durable.

        Raises:
            Refusal: `wrong_size` (not whole), `wrong_digest`.
        """
        self._check_upload(token, size, digest)
        return self._upload(token).read_bytes()

    def upload_to_blob(self, token: str, size: int, digest: str) -> None:
        """Make a finished upload the blob `digest`. Doing it twice is harmless.

        Raises:
            Refusal: as `upload_bytes`.
        """
        if self.exists(digest):
            self.drop_upload(token)
            return
        self._check_upload(token, size, digest)
        _rename(self._upload(token), self._blob(digest))

    def upload_to_delta(self, token: str, assignment: int) -> None:
        """Make a finished upload the delta of `assignment`. Doing it twice is harmless."""
        if self._upload(token).exists():
            _rename(self._upload(token), self._delta(assignment))

    def drop_upload(self, token: str) -> None:
        """Throw an upload away; one that is not there is fine."""
        self._upload(token).unlink(missing_ok=True)

    def _check_upload(self, token: str, size: int, digest: str) -> None:
        here = self.upload_offset(token)
        if here != size:
            message = f"The upload has {here} of {size} bytes: send the rest."
            raise Refusal(RefusalCode.WRONG_SIZE, message)
        hasher = hashlib.sha256()
        with self._upload(token).open("rb") as file:
            while part := file.read(_READ_BYTES):
                hasher.update(part)
            os.fsync(file.fileno())
        if hasher.hexdigest() != digest:
            message = "The bytes that came are not those whose digest was reported."
            raise Refusal(RefusalCode.WRONG_DIGEST, message)

    def _blob(self, digest: str) -> Path:
        return self._blobs / digest[:2] / digest

    def _delta(self, assignment: int) -> Path:
        return self._deltas / f"{assignment % 100:02d}" / str(assignment)

    def _upload(self, token: str) -> Path:
        return self._uploads / digest_of(token.encode())


def _write(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there; other processes may write it at the same time."""
    path.parent.mkdir(exist_ok=True)
    try:
        write_durably(path, data, shared=True)
    except OSError as error:
        raise _translated(error) from error
    sync_directory(path.parent.parent)  # it may have been made just now


def _rename(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    rename_durably(source, target)
    sync_directory(target.parent.parent)


def _translated(error: OSError) -> Exception:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        message = "The coordinator's disk is full: try again later."
        return Refusal(RefusalCode.STORAGE_FULL, message, retry_after_seconds=300)
    return error
