"""A folder of content-addressed files: what a project publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.parts import blob_of
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_shared.protocol.unit import Blob

__all__ = ["BlobFolder"]


class BlobFolder:
    """Blobs in `folder`, each in a file that is named by its digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> Blob:
        """Write `data`, unless the folder has it, and return its name."""
        blob = blob_of(data)
        path = self.path(blob.digest)
        if not (path.exists() and path.stat().st_size == blob.size):
            write_durably(path, data, shared=True)
        return blob

    def get(self, digest: str) -> bytes:
        """Return the bytes of a blob.

        Raises:
            InputError: it is not there, or was changed on disk.
        """
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError as error:
            raise InputError(f"{self.path(digest)} is missing: run the command again.") from error
        if digest_of(data) != digest:
            raise InputError(f"{self.path(digest)} was changed on disk: remove it and run again.")
        return data

    def path(self, digest: str) -> Path:
        """Return where the blob is or would be."""
        return self.folder / digest
