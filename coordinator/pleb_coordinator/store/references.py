"""Which files the rows refer to: what is never removed, and what a backup must have.

A version's row refers to its difference, outer state and snapshot and to all blobs that build it;
the metadata of an epoch to its model, graphs, data and shards. A blob without a row is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.store.queries import references as sql
from pleb_coordinator.store.rows import TableGroup, version_key

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["METADATA", "References"]

METADATA: Final = -1
"""Stands in for the version where an epoch's metadata refer to a blob."""


class References(TableGroup):
    """Files without which rows mean nothing."""

    def add(self, project: int, epoch: int, version: int, digests: Iterable[str]) -> None:
        """Note that a version, or METADATA, needs those blobs."""
        place = version_key(project, epoch, version)
        self._db.execute_each(
            sql.ADD_REFERENCE, ({"digest": digest, **place} for digest in digests)
        )

    def of(self, project: int, epoch: int, version: int) -> set[str]:
        """Return the blobs that a version, or METADATA, needs."""
        rows = self._db.execute(sql.REFERENCES_OF, **version_key(project, epoch, version))
        return {digest for (digest,) in rows}

    def replace(self, project: int, epoch: int, version: int, digests: Iterable[str]) -> None:
        """Note that it needs those blobs and no others."""
        self._db.execute(sql.REMOVE_REFERENCES, **version_key(project, epoch, version))
        self.add(project, epoch, version, digests)

    def needed(self, digest: str) -> bool:
        """Whether any row needs that blob."""
        return self._exists(sql.IS_REFERENCED, digest=digest)

    def blobs(self) -> set[str]:
        """Return all blobs that rows need."""
        return {digest for (digest,) in self._db.execute(sql.REFERENCED_BLOBS)}

    def delta_files(self) -> list[tuple[int, str]]:
        """Return the assignments whose delta is a file, each with the digest of its bytes."""
        return list(self._db.execute(sql.DELTA_FILES))
