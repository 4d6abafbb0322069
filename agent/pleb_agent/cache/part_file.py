"""A blob that is being fetched: a file into which only parts go that were checked.

Parts come in any order and from anybody. What is there is known by hashing it, so a file that a
crash, a full disk or another program has damaged lacks what is damaged, and no list of parts can
be wrong about it.
"""

from __future__ import annotations

import hashlib
import os
from threading import Lock
from typing import IO, TYPE_CHECKING

from pleb_agent.cache.errors import CorruptBlobError, disk_errors
from pleb_shared.protocol.parts import leaf_of, part_count, part_place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pleb_agent.cache.shard_cipher import ShardCipher
    from pleb_shared.protocol.unit import Blob

__all__ = ["PartFile", "cipher_stream"]


class PartFile:
    """The file of one blob, encrypted if it has a cipher.

    `leaves`: what the parts must hash to, verified; none for a blob of one part, which has its
    digest. `adopt` moves the whole file to its place.
    """

    def __init__(
        self,
        path: Path,
        blob: Blob,
        leaves: Sequence[bytes],
        cipher: ShardCipher | None,
        adopt: Callable[[Path], None],
    ) -> None:
        self.blob = blob
        self._path = path
        self._leaves = leaves
        self._cipher = cipher
        self._adopt = adopt
        self._lock = Lock()
        """Neighbours' requests read in threads."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b")
        if os.fstat(descriptor).st_size > blob.size:
            self._file.truncate(0)
        length = os.fstat(descriptor).st_size
        self.missing = set(range(part_count(blob.size)))
        """Numbers of the parts that are not there."""
        for number in sorted(self.missing):
            start, end = part_place(blob.size, number)
            if end <= length and self._is(number, self._read(start, end)):
                self.missing.discard(number)

    def put(self, number: int, data: bytes) -> None:
        """Write a part.

        Raises:
            CorruptBlobError: these are not its bytes; nothing was written.
            DiskFullError: no space.
        """
        if not self._is(number, data):
            raise CorruptBlobError(f"Part {number} of blob {self.blob.digest[:12]} is wrong.")
        start, _ = part_place(self.blob.size, number)
        with disk_errors(), self._lock:
            self._file.seek(start)
            self._file.write(cipher_stream(self.blob, self._cipher, start)(data))
        self.missing.discard(number)

    def read(self, number: int) -> bytes:
        """Return a part that is there. Raises `ValueError`: the file was closed."""
        return self._read(*part_place(self.blob.size, number))

    def finish(self) -> None:
        """Check the digest of the whole, sync, and give the blob its name.

        Raises:
            CorruptBlobError: its parts are those of the signed root, and the whole is not what the
                signed digest says; they are deleted.
            DiskFullError: they cannot be written.
        """
        digest = hashlib.sha256()
        for number in range(part_count(self.blob.size)):
            digest.update(self.read(number))
        if digest.hexdigest() != self.blob.digest:
            self.close()
            self._path.unlink(missing_ok=True)
            raise CorruptBlobError(
                f"The root and the digest of blob {self.blob.digest[:12]} name different bytes: "
                "the project has to be published again."
            )
        with disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._adopt(self._path)

    def close(self) -> None:
        """Close the file; its parts stay for the next try."""
        with disk_errors():
            self._file.close()

    def _is(self, number: int, data: bytes) -> bool:
        if self.blob.root is None:
            return hashlib.sha256(data).hexdigest() == self.blob.digest
        return leaf_of(data) == self._leaves[number]

    def _read(self, start: int, end: int) -> bytes:
        with self._lock:
            self._file.seek(start)
            data = self._file.read(end - start)
        return cipher_stream(self.blob, self._cipher, start)(data)


def cipher_stream(
    blob: Blob, cipher: ShardCipher | None, offset: int = 0
) -> Callable[[bytes], bytes]:
    """Return a function from the blob's bytes at `offset` to those of the file, and back."""
    return bytes if cipher is None else cipher.stream(blob.digest, offset)
