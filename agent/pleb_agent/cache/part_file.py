"""A download in progress: bytes are hashed, perhaps encrypted, and checked before they count."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from pleb_agent.cache.errors import CorruptBlobError, disk_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.cache.shard_cipher import ShardCipher
    from pleb_shared.protocol.unit import Blob

__all__ = ["CHUNK_BYTES", "PartFile", "stream_of"]

CHUNK_BYTES: Final = 1 << 20


class PartFile:
    """A sink for `client` that survives interruptions. `adopt` moves the whole file in place."""

    def __init__(
        self, path: Path, blob: Blob, cipher: ShardCipher | None, adopt: Callable[[Path], None]
    ) -> None:
        self._path = path
        self._adopt = adopt
        self._blob = blob
        self._cipher = cipher
        self._hash = hashlib.sha256()
        self._file = path.open("ab+")
        self._offset = self._hash_what_is_there()
        self._encrypt = stream_of(blob, cipher, self._offset)

    @property
    def offset(self) -> int:
        """How many bytes are there."""
        return self._offset

    def restart(self) -> None:
        """Discard them."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self._offset = 0
        self._encrypt = stream_of(self._blob, self._cipher, 0)

    def write(self, chunk: bytes) -> None:
        """Append and hash.

        Raises:
            DiskFullError: no space.
        """
        with disk_errors():
            self._file.write(self._encrypt(chunk))
        self._hash.update(chunk)
        self._offset += len(chunk)

    def finish(self) -> None:
        """Check the digest, sync, and give the blob its name.

        Raises:
            CorruptBlobError: the bytes are wrong; they are deleted.
            DiskFullError: they cannot be written.
        """
        if self._hash.hexdigest() != self._blob.digest:
            self.close()
            self._path.unlink(missing_ok=True)
            raise CorruptBlobError(
                f"Blob {self._blob.digest[:12]} arrived with wrong bytes; it is fetched again."
            )
        with disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._adopt(self._path)

    def close(self) -> None:
        """Close the file; its bytes stay for the next try."""
        with disk_errors():
            self._file.close()

    def _hash_what_is_there(self) -> int:
        self._file.seek(0)
        offset, decrypt = 0, stream_of(self._blob, self._cipher, 0)
        while chunk := self._file.read(CHUNK_BYTES):
            self._hash.update(decrypt(chunk))
            offset += len(chunk)
        if offset > self._blob.size:
            self._file.truncate(0)
            self._hash = hashlib.sha256()
            return 0
        return offset


def stream_of(blob: Blob, cipher: ShardCipher | None, offset: int) -> Callable[[bytes], bytes]:
    """Return a function from the blob's bytes at `offset` to those of the file, and back."""
    return bytes if cipher is None else cipher.stream(blob.digest, offset)
