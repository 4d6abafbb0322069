"""The newest version as a safetensors state_dict: from snapshot and differences, digest checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pleb_project.publish import pinned
from pleb_project.server.status import STATUS_BYTES
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.unit import VersionSource
from pleb_shared.tensors.layout import save_tensors
from pleb_shared.tensors.version import read_version
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_project.server.client import Coordinator
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["SavedModel", "download_model"]


@dataclass(frozen=True)
class SavedModel:
    """What was written."""

    version: int
    digest: str
    tensors: int


class _Answer(msgspec.Struct, frozen=True):
    """The part of the status that says how the newest version is put together."""

    source: VersionSource


def download_model(coordinator: Coordinator, link: AttachLink, file: Path) -> SavedModel:
    """Write the newest version to `file`, which must not exist.

    Load it with `model.load_state_dict(safetensors.torch.load_file(file))`.

    Raises:
        InputError: the file exists or cannot be written.
        TrustError: the metadata is not signed by the root key that the link pins.
        EncodingError: the bytes do not make the version that was promised.
    """
    if file.exists():
        raise InputError(f"{file} already exists: choose another name.")
    metadata = pinned(coordinator.metadata(link.project), link)
    try:
        status = coordinator.status(link.project)
        source = strict_json.decode(status, _Answer, most_bytes=STATUS_BYTES).source
    except Refusal as error:
        message = (
            f"The coordinator's status does not describe the newest version ({error}): ask its "
            "operator for `pleb-coordinator model export`."
        )
        raise Refusal(RefusalCode.MALFORMED, message) from error
    version = read_version(source, metadata, coordinator.blob)
    try:
        write_durably(file, save_tensors(version), shared=True)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from error
    return SavedModel(source.number, source.digest, len(version))
