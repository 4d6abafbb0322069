"""Blobs named by their SHA-256, in a folder with a quota.

A blob gets its name only when its bytes are on the disk and match their digest, so a crash at any
point leaves a part file (whose parts a later download keeps) or the whole blob. A blob is hashed
again when its size or modification time has changed since it was last checked. Held blobs (`hold`)
are never evicted; of the others the least recently used go first.

A blob with a `ShardCipher` is encrypted on disk; its name is its digest and the cipher's mark.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections import Counter
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from pleb_agent.cache.errors import CacheFullError, CorruptBlobError, disk_errors
from pleb_agent.cache.part_file import PartFile, cipher_stream
from pleb_shared.errors import Refusal
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.parts import part_place, read_leaves
from pleb_system.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pleb_agent.cache.shard_cipher import ShardCipher
    from pleb_shared.protocol.unit import Blob

__all__ = ["BlobCache"]

_DIGEST_DIGITS: Final = 64
_CHUNK_BYTES: Final = 1 << 20


class BlobCache:
    """The folder of blobs; one process at a time uses it."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self._parts = folder / "parts"
        self._leaves = folder / "leaves"
        self._checked: dict[str, tuple[int, int]] = {}
        self._held: Counter[str] = Counter()
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        with disk_errors():
            for own in (self._parts, self._leaves):
                own.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = [path for _, _, path in sorted(self._files())]
        self._recent = {path.name: None for path in found if path.parent != self._parts}

    def path(self, name: str) -> Path:
        """Return the path that a blob of this name has."""
        return self.folder / name[:2] / name

    def fetching(self, blob: Blob, cipher: ShardCipher | None = None) -> asyncio.Lock:
        """Return the lock under which this blob is fetched: devices may want it at once."""
        return self._fetching.setdefault(_name(blob.digest, cipher), asyncio.Lock())

    def has(self, blob: Blob, cipher: ShardCipher | None = None) -> bool:
        """Whether the blob is there with the right bytes; a damaged one is deleted."""
        name = _name(blob.digest, cipher)
        path = self.path(name)
        try:
            stat = path.stat()
        except FileNotFoundError:
            return False
        seen = (stat.st_size, stat.st_mtime_ns)
        if self._checked.get(name) == seen:
            return True
        if stat.st_size == blob.size:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                for clear in _clear_chunks(file, blob, cipher):
                    digest.update(clear)
            if digest.hexdigest() == blob.digest:
                self._checked[name] = seen
                return True
        self._discard(name)
        return False

    def check_again(self, blob: Blob) -> bool:
        """Hash a blob although it has not changed since it was checked; as `has`."""
        self._checked.pop(blob.digest, None)
        return self.has(blob)

    def discard(self, digest: str, cipher: ShardCipher | None = None) -> None:
        """Delete a blob and its part."""
        self._discard(_name(digest, cipher))

    def discard_all_of(self, cipher: ShardCipher) -> None:
        """Delete what is encrypted with this key."""
        for _, _, path in list(self._files()):
            if path.name.endswith("." + cipher.mark):
                self._discard(path.name)

    def _discard(self, name: str) -> None:
        self._checked.pop(name, None)
        self._recent.pop(name, None)
        for path in (self.path(name), self._parts / name, self._leaves / name[:_DIGEST_DIGITS]):
            path.unlink(missing_ok=True)

    def read(self, blob: Blob) -> bytes:
        """Return the blob's bytes.

        Raises:
            CorruptBlobError: it is not there, or its bytes are wrong.
        """
        data = self.path(blob.digest).read_bytes() if self.has(blob) else b""
        if hashlib.sha256(data).hexdigest() != blob.digest:
            self.discard(blob.digest)
            raise CorruptBlobError(f"Blob {blob.digest[:12]} is damaged; it is fetched again.")
        return data

    def read_part(self, blob: Blob, number: int, cipher: ShardCipher | None = None) -> bytes:
        """Return a part of a blob that is there, unchecked: whoever gets it checks it.

        Raises:
            CorruptBlobError: the blob is not there any more.
        """
        start, end = part_place(blob.size, number)
        try:
            with self.path(_name(blob.digest, cipher)).open("rb") as file:
                file.seek(start)
                return cipher_stream(blob, cipher, start)(file.read(end - start))
        except OSError as error:
            raise CorruptBlobError(f"Blob {blob.digest[:12]} is missing.") from error

    def link(self, blob: Blob, target: Path) -> None:
        """Make the blob appear as `target`: a hard link, or a copy where links are not possible.

        Raises:
            CorruptBlobError: the blob is not there.
            DiskFullError: the copy does not fit.
        """
        source = self.path(blob.digest)
        if not self.has(blob):
            raise CorruptBlobError(f"Blob {blob.digest[:12]} is missing; it is fetched again.")
        with disk_errors():
            target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:
            with disk_errors():
                shutil.copyfile(source, target)

    def decrypt(self, blob: Blob, cipher: ShardCipher, target: IO[bytes]) -> None:
        """Write the decrypted bytes of a blob into a file.

        Raises:
            CorruptBlobError: the blob is not there, or its bytes are wrong.
            DiskFullError: they do not fit.
        """
        digest = hashlib.sha256()
        if self.has(blob, cipher):
            with disk_errors(), self.path(_name(blob.digest, cipher)).open("rb") as encrypted:
                for clear in _clear_chunks(encrypted, blob, cipher):
                    digest.update(clear)
                    target.write(clear)
        if digest.hexdigest() != blob.digest:
            self.discard(blob.digest, cipher)
            raise CorruptBlobError(f"Blob {blob.digest[:12]} is damaged; it is fetched again.")

    @contextmanager
    def reading(
        self, blob: Blob, cipher: ShardCipher | None = None
    ) -> Iterator[Callable[[int, int], bytes]]:
        """Open a blob that is there, for its bytes from a start up to an end; they are not hashed.

        Raises:
            CorruptBlobError: it is not there, or its bytes are wrong.
        """
        if not self.has(blob, cipher):
            raise CorruptBlobError(f"Blob {blob.digest[:12]} is missing; it is fetched again.")
        with self.path(_name(blob.digest, cipher)).open("rb") as file:

            def read(start: int, end: int) -> bytes:
                file.seek(start)
                return cipher_stream(blob, cipher, start)(file.read(end - start))

            yield read

    def touch(self, digest: str, now: float, cipher: ShardCipher | None = None) -> None:
        """Remember the use of a blob, for eviction and `recent`."""
        name = _name(digest, cipher)
        with suppress(FileNotFoundError):
            path = self.path(name)
            modified = path.stat().st_mtime_ns
            os.utime(path, ns=(int(now * 1e9), modified))
            self._recent.pop(name, None)
            self._recent[name] = None

    def recent(self, count: int, cipher: ShardCipher | None = None) -> list[str]:
        """Return the digests of at most `count` blobs, most recently used first.

        `cipher`: of those that are encrypted with its key; without it, of the plain ones.
        """
        end = _name("", cipher)
        names = (name for name in reversed(self._recent) if name[_DIGEST_DIGITS:] == end)
        return [name[:_DIGEST_DIGITS] for name, _ in zip(names, range(count), strict=False)]

    @contextmanager
    def hold(self, blobs: Iterable[Blob]) -> Iterator[None]:
        """Keep these blobs from eviction inside the block."""
        digests = [blob.digest for blob in blobs]
        self._held.update(digests)
        try:
            yield
        finally:
            self._held.subtract(digests)

    def part(
        self, blob: Blob, leaves: Sequence[bytes], cipher: ShardCipher | None = None
    ) -> PartFile:
        """Return a file for the blob's parts, after making room for it.

        `leaves`: as `PartFile` has them.

        Raises:
            CacheFullError: held blobs leave no room within the quota.
            DiskFullError: the disk is full or cannot be written.
        """
        self.make_room(blob.size)
        with disk_errors():
            path = self._parts / _name(blob.digest, cipher)
            return PartFile(path, blob, leaves, cipher, self._adopt)

    def leaves(self, blob: Blob) -> list[bytes] | None:
        """Return the leaves of a blob as they were kept; None: they are not here."""
        try:
            data = read_regular(self._leaves / blob.digest, LIMITS.leaves_bytes)
            return read_leaves(data, blob)
        except (OSError, Refusal):
            return None

    def keep_leaves(self, blob: Blob, data: bytes) -> list[bytes]:
        """Keep the leaves of a blob; return them.

        Raises:
            Refusal: `wrong_digest`: they are not those of its root.
            DiskFullError: the disk is full or cannot be written.
        """
        leaves = read_leaves(data, blob)
        with disk_errors():
            (self._leaves / blob.digest).write_bytes(data)
        return leaves

    def _adopt(self, part: Path) -> None:
        """Move a checked, synced file to its place."""
        target = self.path(part.name)
        with disk_errors():
            target.parent.mkdir(exist_ok=True, mode=0o700)
            part.replace(target)
        stat = target.stat()
        self._checked[part.name] = (stat.st_size, stat.st_mtime_ns)

    def clear(self) -> None:
        """Delete everything that is not held."""
        for _, _, path in list(self._files()):
            if self._held[path.name[:_DIGEST_DIGITS]] <= 0:
                self._discard(path.name)

    def make_room(self, wanted_bytes: int) -> None:
        """Evict until `wanted_bytes` more fit into the quota.

        Raises:
            CacheFullError: they do not, even if everything that is not held goes.
        """
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        for _, size, path in files:
            if used + wanted_bytes <= self.quota_bytes:
                return
            if self._held[path.name[:_DIGEST_DIGITS]] <= 0:
                self._discard(path.name)
                used -= size
        if used + wanted_bytes > self.quota_bytes:
            raise CacheFullError(
                f"The unit's files need {(used + wanted_bytes) / 2**20:.0f} MiB, but the cache is "
                f"limited to {self.quota_bytes / 2**20:.0f}: raise the preference cache_bytes."
            )

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Last use, size, path of every blob and part."""
        for folder in self.folder.iterdir():
            if folder == self._leaves:  # small, and they go with their blob
                continue
            for path in folder.iterdir() if folder.is_dir() else ():
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    yield max(stat.st_atime, stat.st_mtime), stat.st_size, path


def _name(digest: str, cipher: ShardCipher | None) -> str:
    return digest if cipher is None else f"{digest}.{cipher.mark}"


def _clear_chunks(file: IO[bytes], blob: Blob, cipher: ShardCipher | None) -> Iterator[bytes]:
    """Yield the blob's bytes from its file."""
    decrypt = cipher_stream(blob, cipher)
    while chunk := file.read(_CHUNK_BYTES):
        yield decrypt(chunk)
