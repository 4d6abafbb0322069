"""Blobs, deltas and uploads as files of one data directory.

    blobs/ab/abcd...      content-addressed; the name is the SHA-256 of the bytes
    deltas/12/1234567     one for each assignment (the folder is the number's last two digits)
    uploads/HASH          named by its token's hash; grows from its first byte to its last
    uploads/.RANDOM       a delta that is being unpacked, or that a killed process has left

A file that is there is whole: it is written under another name, synced, renamed, and then
its directory is synced.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_coordinator.blobs.store import (
    append_refusal,
    check_whole,
    checked_delta,
    damaged_blob,
    missing_blob,
    missing_delta,
)
from pleb_coordinator.core.records import FileKind
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_system.durable import rename_durably, sync_directory, write_durably

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import IO

    from pleb_coordinator.blobs.signing import UploadSigner
    from pleb_coordinator.core.records import StoredDelta

__all__ = ["LocalBlobs", "blob_place", "delta_place"]

_READ_BYTES: Final = 2**20
_LEFT_SECONDS: Final = 86_400.0
"""Age of a temporary file whose process must have been killed."""


def blob_place(digest: str) -> str:
    """Return where a blob is below the home."""
    return f"blobs/{digest[:2]}/{digest}"


def delta_place(assignment: int) -> str:
    """Return where the delta of an assignment is below the home."""
    return f"deltas/{assignment % 100:02d}/{assignment}"


class LocalBlobs:
    """Bytes below a directory that exists, as `blobs.store.Blobs`."""

    in_files = True
    signer: UploadSigner | None = None

    def __init__(self, home: Path) -> None:
        self._home = home
        self._blobs = home / "blobs"
        self._uploads = home / "uploads"
        for folder in (self._blobs, home / "deltas", self._uploads):
            folder.mkdir(exist_ok=True)

    def check(self) -> None:
        """There is nothing to check: the folder exists."""

    def put(self, data: bytes) -> str:
        """Store a blob and return its digest; storing it twice is harmless."""
        digest = digest_of(data)
        path = self._blob(digest)
        if not path.exists():
            _write(path, data)
        return digest

    def free_bytes(self) -> int:
        """Return how much room there is for blobs."""
        return shutil.disk_usage(self._blobs).free

    def exists(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self._blob(digest).exists()

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those of the blobs that are there."""
        found = {}
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                found[digest] = self._blob(digest).stat().st_size
        return found

    def size(self, digest: str) -> int:
        """Return its size in bytes. Raises `Refusal` unknown_blob."""
        return self._existing(digest).stat().st_size

    def get(self, digest: str) -> bytes:
        """Return the blob's bytes, hashed again. Raises `Refusal` unknown_blob."""
        data = self._existing(digest).read_bytes()
        if digest_of(data) != digest:
            raise damaged_blob(digest)
        return data

    def read(self, digest: str, start: int, end: int) -> bytes:
        """Return a blob's bytes from `start` up to, not including, `end`; they are not hashed.

        Raises:
            Refusal: `unknown_blob`.
        """
        with self._existing(digest).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not there is fine."""
        self._blob(digest).unlink(missing_ok=True)

    def stored(self, kind: FileKind) -> Iterator[tuple[str, float]]:
        """Yield the names of all blobs, or of all deltas, and when each was written."""
        folder = self._home / ("deltas" if kind is FileKind.DELTA else "blobs")
        for path in folder.glob("??/*"):
            if path.name.startswith("."):
                continue  # being written, or left by a process that was killed
            with contextlib.suppress(FileNotFoundError):
                yield path.name, path.stat().st_mtime

    def delta(self, stored: StoredDelta) -> bytes:
        """Return the bytes of a delta, which are in its row or in the file of its assignment.

        Raises:
            Refusal: `unknown_blob`: the file is missing.
        """
        if stored.data is not None:
            return stored.data
        try:
            return self._delta(stored.assignment).read_bytes()
        except FileNotFoundError as error:
            raise missing_delta(stored, "missing") from error

    def delta_view(self, stored: StoredDelta, digest: str | None) -> memoryview:
        """Return the bytes of a delta that are read from the disk as they are looked at.

        So that the deltas of a round, which may be larger than the memory, need not be in it. They
        are hashed once here, unless `digest` is None: what was verified is what enters the model.

        Raises:
            Refusal: `unknown_blob`: the file is missing, or it is not what `digest` names.
        """
        if stored.data is not None:
            view = memoryview(stored.data)
        else:
            try:
                with self._delta(stored.assignment).open("rb") as file:
                    view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except FileNotFoundError as error:
                raise missing_delta(stored, "missing") from error
            except ValueError as error:  # an empty file cannot be mapped
                raise missing_delta(stored, "damaged") from error
        return checked_delta(view, stored, digest)

    def put_delta(self, assignment: int, data: bytes) -> None:
        """Store the delta of `assignment`; doing it twice is harmless.

        Raises:
            Refusal: `storage_full`.
        """
        _write(self._delta(assignment), data)

    @contextmanager
    def temporary(self) -> Iterator[IO[bytes]]:
        """Return an empty file on the disk of the deltas, as `Blobs.temporary`."""
        with tempfile.NamedTemporaryFile(prefix=".", dir=self._uploads, delete=False) as file:
            path = Path(file.name)
            try:
                self._remove_left(path.stat().st_mtime - _LEFT_SECONDS)
                yield file
            except OSError as error:
                raise _translated(error) from error
            finally:
                file.close()
                path.unlink(missing_ok=True)

    def put_delta_file(self, assignment: int, file: IO[bytes]) -> None:
        """Store the delta in a file of `temporary`, as `Blobs.put_delta_file`."""
        file.flush()
        os.fsync(file.fileno())
        file.close()  # Windows renames no open file
        _rename(Path(file.name), self._delta(assignment))

    def _remove_left(self, before: float) -> None:
        """Remove temporary files that were written to last before that time."""
        for left in self._uploads.glob(".*"):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < before:
                    left.unlink()

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
            Refusal: `wrong_offset` (the upload continues elsewhere), `wrong_size` (too many
                bytes), `storage_full`.
        """
        here = self.upload_offset(token)
        refusal = append_refusal(here, offset, len(data), size)
        if refusal is not None:
            raise refusal
        try:
            path = self._upload(token)
            if not here:
                path.touch(0o600)  # it may hold a delta, which only the coordinator may read
            with path.open("ab") as file:
                file.write(data)
        except OSError as error:
            raise _translated(error) from error
        return here + len(data)

    def upload_parts(self, token: str, size: int) -> Iterator[bytes]:
        """Yield the bytes of a finished upload, a part at a time; they are not hashed.

        Raises:
            Refusal: `wrong_offset` (not whole).
        """
        self._check_whole(token, size)
        with self._upload(token).open("rb") as file:
            while part := file.read(_READ_BYTES):
                yield part

    def upload_to_blob(self, token: str, size: int, digest: str) -> None:
        """Make a finished upload the blob `digest`. Doing it twice is harmless.

        Raises:
            Refusal: `wrong_offset` (not whole), `wrong_digest`.
        """
        if self.exists(digest):
            self.drop_upload(token)
            return
        self._check_upload(token, size, digest)
        _rename(self._upload(token), self._blob(digest))

    def drop_upload(self, token: str) -> None:
        """Delete an upload; one that is not there is fine."""
        self._upload(token).unlink(missing_ok=True)

    def _check_whole(self, token: str, size: int) -> None:
        check_whole(self.upload_offset(token), size)

    def _check_upload(self, token: str, size: int, digest: str) -> None:
        self._check_whole(token, size)
        hasher = hashlib.sha256()
        with self._upload(token).open("rb") as file:
            while part := file.read(_READ_BYTES):
                hasher.update(part)
            os.fsync(file.fileno())
        if hasher.hexdigest() != digest:
            message = "The received bytes do not have the digest that was reported."
            raise Refusal(RefusalCode.WRONG_DIGEST, message)

    def _existing(self, digest: str) -> Path:
        path = self._blob(digest)
        if not path.exists():
            raise missing_blob(digest)
        return path

    def _blob(self, digest: str) -> Path:
        return self._home / blob_place(digest)

    def _delta(self, assignment: int) -> Path:
        return self._home / delta_place(assignment)

    def _upload(self, token: str) -> Path:
        return self._uploads / digest_of(token.encode())


def _write(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there; other processes may write it at the same time."""
    path.parent.mkdir(exist_ok=True)
    try:
        write_durably(path, data, private=True, shared=True)
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
