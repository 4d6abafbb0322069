"""Every version of a project as lines, as a mirror has them and another coordinator reads them.

Unlike the signed log (`version_log`) it says how each version is put together. Who goes on from it
computes the newest version's digest, which the signed log has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.records import VersionInput
from pleb_shared.protocol.unit import VersionSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.core.records import Project, VersionRow
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["LoggedVersion", "all_versions", "line_of"]

_PAGE: Final = 500


class LoggedVersion(msgspec.Struct, frozen=True):
    """A line of `log.jsonl`."""

    epoch: int
    number: int
    digest: str
    metadata_number: int
    restores: int | None
    inputs: tuple[VersionInput, ...]
    source: VersionSource | None
    """How it is put together; None: its tensors are not kept any more."""
    outer_state: str
    """The blob with the outer step's state; the mirror has that of the newest version."""
    made_at: float
    snapshot: str = ""
    """The blob with the whole version; empty where there is none."""
    train_loss: float | None = None
    results: int = 0
    """How many deltas went in."""


def all_versions(tx: Transaction, project: Project) -> Iterator[VersionRow]:
    """Yield the versions of all epochs, oldest first."""
    for epoch in tx.versions.epochs(project.id):
        after = -1
        while page := tx.versions.history(project.id, epoch, after=after, limit=_PAGE):
            yield from page
            after = page[-1].number


def line_of(row: VersionRow) -> bytes:
    """Return a version's line, without a line feed."""
    logged = LoggedVersion(
        epoch=row.epoch,
        number=row.number,
        digest=row.digest,
        metadata_number=row.metadata_number,
        restores=row.restores,
        # a delta follows from its shards to the bit: its digest would confirm a guess of them
        inputs=() if row.noise else row.inputs,
        source=row.source,
        outer_state=row.outer_state,
        made_at=row.made_at,
        snapshot=row.snapshot,
        train_loss=row.train_loss,
        results=row.results,
    )
    return msgspec.json.encode(logged)
