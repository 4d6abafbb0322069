"""How a host gets a version: from the last snapshot and the differences since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.unit import Blob, VersionSource

if TYPE_CHECKING:
    from pleb_coordinator.core.records import VersionRow
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = [
    "SNAPSHOT_VERSIONS",
    "first_source",
    "following_source",
]

SNAPSHOT_VERSIONS: Final = 8
"""Every eighth version is kept whole: a host that is far behind reads at most 7 differences."""


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
    previous: VersionRow, snapshot_bytes: int, digest: str, difference: bytes
) -> VersionSource:
    """Return how a host gets the next version: from the last snapshot before it."""
    blob = Blob(digest=digest_of(difference), size=len(difference))
    before = previous.source
    if previous.snapshot:
        start = Blob(digest=previous.snapshot, size=snapshot_bytes)
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
