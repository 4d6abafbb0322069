"""How a host gets a version: from the last snapshot and the differences since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.project import tensor_bytes
from pleb_shared.protocol.unit import Blob, VersionSource

if TYPE_CHECKING:
    from pleb_coordinator.core.records import VersionRow
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.tensors.format import DeltaFormat

__all__ = [
    "first_source",
    "following_source",
    "snapshot_interval",
]

_DIFFERENCES_PER_SNAPSHOT: Final = 3
"""A host that follows all versions reads a third more than their differences; one that comes late
reads at most four times what a snapshot has."""
_SHORTEST, _LONGEST = 8, 32
"""Each version in between costs a late host a request, and a rollback an outer step."""


def snapshot_interval(encoding: DeltaFormat) -> int:
    """Return how many versions lie from one that is kept whole to the next.

    `encoding` is that of the differences: as long as all of them together have fewer bytes than a
    few snapshots, they are the cheaper way to a version.
    """
    model = encoding.model
    whole = tensor_bytes([*model.parameters, *model.buffers])
    interval = _DIFFERENCES_PER_SNAPSHOT * whole // max(encoding.size, 1)
    return min(max(interval, _SHORTEST), _LONGEST)


def first_source(metadata: ProjectMetadata) -> VersionSource:
    """Return how a host gets version 0."""
    model = metadata.model
    return VersionSource(
        epoch=metadata.epoch,
        number=0,
        digest=model.initial_digest,
        snapshot=model.initial,
        snapshot_number=0,
        differences=[],
    )


def following_source(
    previous: VersionRow, snapshot: Blob | None, digest: str, difference: bytes
) -> VersionSource:
    """Return how a host gets the next version: from the last snapshot before it.

    `snapshot`: that of the previous version, if it was kept whole.
    """
    blob = blob_of(difference)
    before = previous.readable_source
    if snapshot is not None:
        start = snapshot
        number, differences = previous.number, [blob]
    else:
        start, number = before.snapshot, before.snapshot_number
        differences = [*before.differences, blob]
    return VersionSource(
        epoch=previous.epoch,
        number=previous.number + 1,
        digest=digest,
        snapshot=start,
        snapshot_number=number,
        differences=differences,
    )
