"""`models/`: whole versions as files, for people who take the model home.

A file follows from the store and the blobs, so it is made when somebody asks for it, the one of an
older version is removed then, and no backup has any.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.project import tensor_bytes
from pleb_shared.tensors.layout import save_tensors
from pleb_shared.tensors.version import read_version, whole_model
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.unit import VersionSource

__all__ = ["ModelFiles", "model_bytes", "remove_models"]

_SUFFIX: Final = ".safetensors"


def model_bytes(metadata: ProjectMetadata) -> int:
    """Return how many bytes all tensors of a version have, those of its base too."""
    model = metadata.model
    base = model.base.blob.size if model.base else 0
    return tensor_bytes([*model.parameters, *model.buffers]) + base


def remove_models(folder: Path, project: str, but: Path | None = None) -> None:
    """Remove a project's files `but` one."""
    for path in folder.glob(f"{project}-{'[0-9a-f]' * 16}{_SUFFIX}"):
        if path != but:
            with suppress(OSError):  # Windows: somebody is taking it home
                path.unlink()


class ModelFiles:
    """The folder. One file is made at a time, since making one takes twice its size of memory.

    Who wants one meanwhile waits in the event loop, not in one of the few threads that pages need.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._turn = asyncio.Lock()

    async def find(
        self, metadata: ProjectMetadata, source: VersionSource, blob: Callable[[str], bytes]
    ) -> Path:
        """Return the file of a version, made now unless it is there; `blob` reads a blob.

        Raises:
            EncodingError, Refusal: as `tensors.version.read_version`.
            OSError: it cannot be written.
        """
        path = self.folder / f"{metadata.project}-{source.digest[:16]}{_SUFFIX}"
        async with self._turn:
            if not path.exists():
                await asyncio.to_thread(self._make, path, metadata, source, blob)
        return path

    def _make(
        self,
        path: Path,
        metadata: ProjectMetadata,
        source: VersionSource,
        blob: Callable[[str], bytes],
    ) -> None:
        version = read_version(source, metadata, blob)
        tensors = whole_model(version, metadata.model, blob, checked=True)
        self.folder.mkdir(exist_ok=True)
        write_durably(path, save_tensors(tensors), shared=True)
        remove_models(self.folder, metadata.project, but=path)
