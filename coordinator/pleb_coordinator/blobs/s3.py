"""Blobs, deltas and uploads as objects of a bucket of S3 or of what speaks its protocol.

    PREFIX/blobs/ab/abcd...     content-addressed; the name is the SHA-256 of the bytes
    PREFIX/deltas/12/1234567    one for each assignment
    PREFIX/uploads/HASH/OFFSET  the parts of an upload, each named by its first byte's place

An object appears whole or not at all, so nothing has to be renamed. A request that fails by the
network or with 5xx is repeated, at growing intervals, within `_PATIENCE`; then there is a refusal
that says so, and agents and background work try again.

A store need not know checksums: bytes are hashed when they are read, deltas and parts carry their
SHA-256 at their end, and what came wrong is read again before it counts as damage.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from pleb_coordinator.blobs.local import blob_place, delta_place
from pleb_coordinator.blobs.signing import UploadSigner
from pleb_coordinator.blobs.store import (
    DamagedPartError,
    append_refusal,
    check_whole,
    checked_delta,
    damaged_blob,
    missing_blob,
    missing_delta,
)
from pleb_coordinator.core.records import FileKind
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol.direct import SEAL_BYTES, part_place, sealed_part, upload_place
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager
    from typing import IO

    from obstore.store import ClientConfig, RetryConfig

    from pleb_coordinator.core.records import StoredDelta

__all__ = ["S3Blobs", "open_bucket"]

_PATIENCE: Final = timedelta(seconds=30)
"""How long a request is repeated while the store does not answer as it should."""
_BRIEF: Final = timedelta(seconds=4)
"""The same for what is asked while a transaction is open and others wait."""
_TIMEOUT: Final = timedelta(seconds=60)
"""Of one request, with all its bytes."""
_AT_ONCE: Final = 32
_CHUNK_BYTES: Final = 8 * 2**20
_PARTS_AT_ONCE: Final = 4
"""Of a large object, 5 MiB each: they are in memory, of each object that is put at the moment."""
_ROOM: Final = 10**18
_AGAIN: Final = 3
"""How often bytes are read that have another digest."""


def open_bucket(url: str, within: timedelta = _PATIENCE, **given: str) -> S3Store:
    """Return the objects below `url`; `within` is how long a request is repeated.

    `given`: what `S3Blobs` has, where it is not empty.

    Raises:
        InputError: `url` has no bucket.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        message = f"{url!r} names no bucket: write it as s3://bucket/prefix."
        raise InputError(message)
    config: dict[str, Any] = {name: value for name, value in given.items() if value}
    config["disable_bulk_delete"] = True  # which wants checksums, and not every store has it
    options: ClientConfig = {
        "allow_http": given.get("endpoint", "").startswith("http://"),
        "timeout": min(_TIMEOUT, within) if within < _PATIENCE else _TIMEOUT,
        "connect_timeout": min(within, timedelta(seconds=5)),
    }
    retry: RetryConfig = {
        "max_retries": 20,
        "retry_timeout": within,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=3),
            "base": 2,
        },
    }
    prefix = parts.path.strip("/") or None
    return S3Store(
        parts.netloc, prefix=prefix, client_options=options, retry_config=retry, **config
    )


class S3Blobs:
    """Objects below `url`, "s3://BUCKET/PREFIX"; as `blobs.store.Blobs`.

    Credentials that are not given come from the environment (AWS_ACCESS_KEY_ID...) or from the
    machine's role. `public` is the address of the same place for hosts; empty: they use none.

    Raises:
        InputError: `url` has no bucket, or as `UploadSigner`.
    """

    in_files = False

    def __init__(
        self,
        url: str,
        *,
        endpoint: str = "",
        region: str = "",
        access_key_id: str = "",
        secret_access_key: str = "",
        public: str = "",
        patience: timedelta = _PATIENCE,
    ) -> None:
        self._url = url
        config = {
            "endpoint": endpoint,
            "region": region,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        self.signer = (
            UploadSigner(
                public,
                region=region,
                access_key_id=access_key_id,
                secret_access_key=secret_access_key,
            )
            if public
            else None
        )
        self._store = open_bucket(url, patience, **config)
        self._brief = open_bucket(url, min(patience, _BRIEF), **config)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3")

    def check(self) -> None:
        """Check that the bucket can be reached. Raises `InputError`."""
        try:
            next(iter(obstore.list(self._brief, prefix="blobs/", chunk_size=1)), None)
        except (BaseError, FileNotFoundError) as error:
            reason = _first_line(error)
            message = f"{self._url} cannot be used ({reason}): check {_remedy(error)}."
            raise InputError(message) from error

    def put(self, data: bytes) -> str:
        """Store a blob and return its digest, as `Blobs.put`."""
        digest = digest_of(data)
        if not self.exists(digest):
            self._put(blob_place(digest), data)
        return digest

    def free_bytes(self) -> int:
        """Return how much room there is: a bucket has no end."""
        return _ROOM

    def exists(self, digest: str) -> bool:
        """Whether the blob is there, as `Blobs.exists`."""
        return self._size(self._brief, blob_place(digest)) is not None

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those that are there; many are asked for at once."""

        def size(digest: str) -> tuple[str, int | None]:
            return digest, self._size(self._brief, blob_place(digest))

        found = self._threads.map(size, digests)
        return {digest: length for digest, length in found if length is not None}

    def size(self, digest: str) -> int:
        """Return a blob's size in bytes, as `Blobs.size`."""
        size = self._size(self._brief, blob_place(digest))
        if size is None:
            raise missing_blob(digest)
        return size

    def get(self, digest: str) -> bytes:
        """Return the blob's bytes, as `Blobs.get`."""
        for _ in range(_AGAIN):
            with _translated():
                try:
                    data = obstore.get(self._store, blob_place(digest)).bytes().to_bytes()
                except FileNotFoundError as error:
                    raise missing_blob(digest) from error
            if digest_of(data) == digest:
                return data
        raise damaged_blob(digest)

    def read(self, digest: str, start: int, end: int) -> bytes:
        """Return a blob's bytes from `start` up to `end`, as `Blobs.read`."""
        if start >= end:
            self.size(digest)
            return b""
        with _translated():
            try:
                place = blob_place(digest)
                return obstore.get_range(self._store, place, start=start, end=end).to_bytes()
            except FileNotFoundError as error:
                raise missing_blob(digest) from error

    def delete(self, digest: str) -> None:
        """Remove a blob, as `Blobs.delete`."""
        self._delete([blob_place(digest)])

    def stored(self, kind: FileKind) -> Iterator[tuple[str, float]]:
        """Yield the names of all blobs, or of all deltas, as `Blobs.stored`."""
        folder = "deltas/" if kind is FileKind.DELTA else "blobs/"
        with _translated():
            for batch in obstore.list(self._store, prefix=folder):
                for found in batch:
                    written = found["last_modified"].timestamp()
                    yield found["path"].rpartition("/")[2], written

    def delta(self, stored: StoredDelta) -> bytes:
        """Return the bytes of a delta, as `Blobs.delta`."""
        if stored.data is not None:
            return stored.data
        try:
            data = self._sealed(delta_place(stored.assignment))
        except FileNotFoundError as error:
            raise missing_delta(stored, "missing") from error
        if data is None:
            raise missing_delta(stored, "damaged")
        return data

    def delta_view(self, stored: StoredDelta, digest: str | None) -> memoryview:
        """Return the bytes of a delta, as `Blobs.delta_view`: in a file that goes with the view."""
        if stored.data is not None:
            return checked_delta(memoryview(stored.data), stored, digest)
        for _ in range(_AGAIN):
            with tempfile.TemporaryFile(prefix="pleb-delta-") as file, _translated():
                try:
                    for part in obstore.get(self._store, delta_place(stored.assignment)).stream(
                        min_chunk_size=_CHUNK_BYTES
                    ):
                        file.write(part)
                except FileNotFoundError as error:
                    raise missing_delta(stored, "missing") from error
                file.flush()
                if file.tell() <= SEAL_BYTES:  # an empty file cannot be mapped
                    continue
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            data, seal = view[:-SEAL_BYTES], view[-SEAL_BYTES:]
            if hashlib.sha256(data).digest() == seal:
                return checked_delta(data, stored, digest)
        raise missing_delta(stored, "damaged")

    def put_delta(self, assignment: int, data: bytes) -> None:
        """Store a delta, as `Blobs.put_delta`."""
        self._put(delta_place(assignment), sealed_part(data))

    def temporary(self) -> AbstractContextManager[IO[bytes]]:
        """Return an empty file, as `Blobs.temporary`."""
        return tempfile.TemporaryFile(prefix="pleb-delta-")

    def put_delta_file(self, assignment: int, file: IO[bytes]) -> None:
        """Store the delta in a file of `temporary`, as `Blobs.put_delta_file`."""
        file.seek(0)
        seal = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        file.write(seal)
        file.seek(0)
        with _translated():  # in parts, if it is large
            obstore.put(self._store, delta_place(assignment), file, max_concurrency=_PARTS_AT_ONCE)

    def delete_delta(self, assignment: int) -> None:
        """Remove a delta, as `Blobs.delete_delta`."""
        self._delete([delta_place(assignment)])

    def upload_offset(self, token: str) -> int:
        """Return how many bytes of an upload are here, as `Blobs.upload_offset`."""
        return sum(size for _, size in self._parts(token))

    def append_upload(self, token: str, offset: int, data: bytes, size: int) -> int:
        """Add bytes at the end of an upload, as `Blobs.append_upload`.

        Two processes may add a part at the same place; the whole is hashed in the end.
        """
        here = self.upload_offset(token)
        refusal = append_refusal(here, offset, len(data), size)
        if refusal is not None:
            raise refusal
        if data:
            self._put(part_place(token, offset), sealed_part(data))
        return here + len(data)

    def upload_parts(self, token: str, size: int) -> Iterator[bytes]:
        """Yield the bytes of a finished upload, as `Blobs.upload_parts`."""
        return self._whole(token, size)

    def upload_to_blob(self, token: str, size: int, digest: str) -> None:
        """Make a finished upload a blob, as `Blobs.upload_to_blob`."""
        if not self.exists(digest):
            hasher = hashlib.sha256()
            with tempfile.TemporaryFile(prefix="pleb-blob-") as file:
                for part in self._whole(token, size):
                    hasher.update(part)
                    file.write(part)
                if hasher.hexdigest() != digest:
                    message = "The received bytes do not have the digest that was reported."
                    raise Refusal(RefusalCode.WRONG_DIGEST, message)
                file.seek(0)
                with _translated():  # in parts, if it is large
                    obstore.put(
                        self._store, blob_place(digest), file, max_concurrency=_PARTS_AT_ONCE
                    )
        self.drop_upload(token)

    def drop_upload(self, token: str) -> None:
        """Delete an upload, as `Blobs.drop_upload`."""
        with _translated():
            parts = [
                f["path"] for b in obstore.list(self._store, prefix=upload_place(token)) for f in b
            ]
        self._delete(parts)

    def _put(self, place: str, data: bytes) -> None:
        with _translated():
            obstore.put(self._store, place, data)

    def _delete(self, places: list[str]) -> None:
        with _translated():
            for place in places:
                try:
                    obstore.delete(self._store, place)
                except FileNotFoundError:
                    continue

    def _size(self, store: S3Store, place: str) -> int | None:
        """Return an object's size; None: it is not there."""
        with _translated():
            try:
                return int(obstore.head(store, place)["size"])
            except FileNotFoundError:
                return None

    def _parts(self, token: str) -> list[tuple[str, int]]:
        """Return the names and sizes of an upload's parts, from its first byte to the first gap."""
        with _translated():
            batches = obstore.list(self._store, prefix=upload_place(token))
            found = sorted(
                (f["path"], int(f["size"]) - SEAL_BYTES) for batch in batches for f in batch
            )
        parts: list[tuple[str, int]] = []
        end = 0
        for path, size in found:
            if int(path.rpartition("/")[2]) != end or not 0 < size <= LIMITS.upload_part_bytes:
                break
            parts.append((path, size))
            end += size
        return parts

    def _whole(self, token: str, size: int) -> Iterator[bytes]:
        """Yield the parts of an upload that has `size` bytes. Raises `Refusal` wrong_offset."""
        parts = self._parts(token)
        check_whole(sum(length for _, length in parts), size)
        for path, _ in parts:
            try:
                part = self._sealed(path)
            except FileNotFoundError:
                part = None
            if part is None:
                raise DamagedPartError
            yield part

    def _sealed(self, place: str) -> bytes | None:
        """Return the bytes before an object's seal; None: they are damaged.

        Raises:
            FileNotFoundError: it is not there.
        """
        for _ in range(_AGAIN):
            with _translated():
                found = obstore.get(self._store, place).bytes().to_bytes()
            data, seal = found[:-SEAL_BYTES], found[-SEAL_BYTES:]
            if hashlib.sha256(data).digest() == seal:
                return data
        return None


@contextmanager
def _translated() -> Iterator[None]:
    """Raise a refusal for what the store did not do, although it was asked again and again."""
    try:
        yield
    except BaseError as error:
        message = f"The coordinator's blob store does not do its work ({_first_line(error)})."
        raise Refusal(RefusalCode.INTERNAL, message, retry_after_seconds=10) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no reason given"])[0][:200]


def _remedy(error: BaseException) -> str:
    # A listing that fails has no type of its own: its status is in the message, beside an address
    # whose port or path may have the same digits.
    status = re.search(r"status code: (\d{3})", str(error))
    code = status[1] if status else ""
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or code in ("401", "403"):
        return "the access key, and what it may do in that bucket"
    if isinstance(error, FileNotFoundError) or code == "404":
        return "the bucket's name, and create it"
    return "its address, and that it runs"
