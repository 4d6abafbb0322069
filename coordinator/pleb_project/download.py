"""A version as a safetensors state_dict: from snapshot and differences, every digest checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_project.publish.rules import pinned, self_signed
from pleb_project.server.client import Address, Coordinator
from pleb_project.server.status import decode_status
from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol.roots import root_path
from pleb_shared.tensors.average import first_averaged, moving_average
from pleb_shared.tensors.layout import save_tensors
from pleb_shared.tensors.version import read_version, whole_model
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.definition.sections import ProjectDefinition
    from pleb_project.server.records import Home
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.status import VersionStatus
    from pleb_shared.tensors.layout import Tensors

__all__ = ["NEWEST", "SavedModel", "Wanted", "download_model", "parse_wanted", "with_initial"]

_VERSION: Final = re.compile(r"(?:([0-9]{1,9})/)?(newest|best|[0-9]{1,9})")
_PUBLISHED: Final = re.compile(r"([a-z0-9-]{1,40})@(.+)")


@dataclass(frozen=True)
class Wanted:
    """Which version: a number in digits, `best` or `newest`."""

    version: str = "newest"
    epoch: int | None = None
    """None: the current one."""
    ema: float | None = None
    """The decay of a moving average that ends with the version; None: the version itself."""


NEWEST: Final = Wanted()


@dataclass(frozen=True)
class SavedModel:
    """What was written. `digest` is the version's, also where the file holds an average."""

    epoch: int
    version: int
    digest: str
    tensors: int


def parse_wanted(text: str) -> Wanted:
    """Return what `VERSION` or `EPOCH/VERSION` names.

    Raises:
        InputError: it is something else.
    """
    found = _VERSION.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text!r} is no version: give a number, best or newest, with EPOCH/ in front for an "
            "earlier epoch, such as 0/40."
        )
    epoch, version = found.groups()
    return Wanted(version=version, epoch=None if epoch is None else int(epoch))


def download_model(
    coordinator: Coordinator, link: AttachLink, file: Path, wanted: Wanted = NEWEST
) -> SavedModel:
    """Write a version to `file`, which must not exist.

    Load it with `model.load_state_dict(safetensors.torch.load_file(file))`.

    Raises:
        InputError: the file exists or cannot be written.
        Refusal: the project has no such version.
        TrustError: the metadata is not signed by the root key that the link pins.
        EncodingError: the bytes do not make the version that was promised.
    """
    if file.exists():
        raise InputError(f"{file} already exists: choose another name.")
    newest = pinned(coordinator.metadata(link.project), link)
    epoch = newest.epoch if wanted.epoch is None else wanted.epoch
    found = coordinator.version(link.project, epoch, wanted.version)
    metadata = _metadata_of(coordinator, newest, epoch, found)
    if wanted.ema is None:
        tensors = read_version(found.source, metadata, coordinator.content)
    else:
        versions = _versions(coordinator, metadata, found, wanted.ema)
        tensors = moving_average(versions, wanted.ema)
    tensors = whole_model(tensors, metadata.model, coordinator.content, checked=True)
    try:
        write_durably(file, save_tensors(tensors), shared=True)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from error
    return SavedModel(epoch, found.source.number, found.source.digest, len(tensors))


def with_initial(home: Home, definition: ProjectDefinition) -> ProjectDefinition:
    """Return the definition with `model.initial` as a file: a published version is downloaded.

    `PROJECT@VERSION` names one of a project that was published from this home.

    Raises:
        InputError, PlebError: as `download_model`.
    """
    named = _PUBLISHED.fullmatch(definition.model.initial)
    if named is None:
        return definition
    project, version = named.groups()
    wanted, link = parse_wanted(version), home.find(project)
    address = Address(link.base_url, link.certificate)
    with Coordinator(address, home.reading(project)) as coordinator:
        epoch = wanted.epoch
        if epoch is None:
            epoch = decode_status(coordinator.status(project)).epoch
        digest = coordinator.version(project, epoch, wanted.version).source.digest
        folder = home.build_folder(definition.project.name)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"initial-{digest}.safetensors"
        if not file.exists():
            exact = Wanted(version=wanted.version, epoch=epoch)
            download_model(coordinator, link, file, exact)
    model = msgspec.structs.replace(definition.model, initial=str(file.absolute()))
    return msgspec.structs.replace(definition, model=model)


def _metadata_of(
    coordinator: Coordinator, newest: ProjectMetadata, epoch: int, found: VersionStatus
) -> ProjectMetadata:
    """Return metadata that has the model and codec of that epoch.

    Raises:
        TrustError: no root key of the project has signed it.
    """
    if epoch == newest.epoch:
        return newest
    metadata = self_signed(coordinator.metadata_at(newest.project, found.metadata_number))
    if metadata.root_key not in root_path(newest) or metadata.epoch != epoch:
        raise TrustError(
            f"The metadata of epoch {epoch} is not signed by a root key of {newest.project}."
        )
    return metadata


def _versions(
    coordinator: Coordinator, metadata: ProjectMetadata, last: VersionStatus, decay: float
) -> Iterator[Tensors]:
    """Yield the versions that count in the moving average which ends with `last`, oldest first."""
    blobs: dict[str, bytes] = {}

    def blob(digest: str) -> bytes:
        if digest not in blobs:
            blobs[digest] = coordinator.content(digest)
        return blobs[digest]

    number = last.source.number
    for earlier in range(first_averaged(number, decay), number):
        source = coordinator.version(metadata.project, metadata.epoch, str(earlier)).source
        needed = {source.snapshot.digest, *(part.digest for part in source.differences)}
        for digest in blobs.keys() - needed:
            del blobs[digest]
        yield read_version(source, metadata, blob)
    yield read_version(last.source, metadata, blob)
