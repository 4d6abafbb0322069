"""Which files the rows refer to: what a backup must have, beside the store itself."""

from __future__ import annotations

from pleb_coordinator.store import queries as sql
from pleb_coordinator.store.rows import TableGroup

__all__ = ["References"]


class References(TableGroup):
    """Files without which rows mean nothing."""

    def metadata_numbers(self, project: int) -> list[int]:
        """Return the numbers of all metadata of a project, which name graphs and shards."""
        rows = self._db.execute(sql.METADATA_NUMBERS, project=project)
        return [number for (number,) in rows]

    def version_blobs(self) -> list[str]:
        """Return the blobs of all versions: differences, snapshots, outer states."""
        return [digest for (digest,) in self._db.execute(sql.VERSION_BLOBS) if digest]

    def delta_files(self) -> list[tuple[int, str]]:
        """Return the assignments whose delta is a file, each with the digest of its bytes."""
        return list(self._db.execute(sql.DELTA_FILES))
