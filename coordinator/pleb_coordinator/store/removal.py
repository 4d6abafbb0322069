"""Removes whatever belongs to one project; `steps.delete` says in which order."""

from __future__ import annotations

from pleb_coordinator.store.queries import removal as sql
from pleb_coordinator.store.rows import TableGroup

__all__ = ["Removal"]


class Removal(TableGroup):
    """All rows of a project."""

    def open_uploads(self, project: int) -> list[str]:
        """Return the tokens of its uploads that are not complete."""
        rows = self._db.execute(sql.OPEN_UPLOADS_OF_PROJECT, project=project)
        return [token for (token,) in rows]

    def deltas(self, project: int, limit: int) -> list[int]:
        """Return assignments whose delta is kept."""
        rows = self._db.execute(sql.DELTAS_OF_PROJECT, project=project, limit=limit)
        return [assignment for (assignment,) in rows]

    def remove_some(self, project: int, limit: int) -> bool:
        """Remove up to `limit` rows of one table; False: only the last ones are left."""
        for statement in sql.REMOVE_SOME_OF_PROJECT:
            if self._db.execute(statement, project=project, limit=limit).rowcount:
                return True
        return False

    def references(self, project: int) -> set[str]:
        """Return the blobs that its rows need."""
        rows = self._db.execute(sql.REFERENCES_OF_PROJECT, project=project)
        return {digest for (digest,) in rows}

    def remove_project(self, project: int) -> None:
        """Remove the last rows, and the project itself."""
        for statement in sql.REMOVE_PROJECT:
            self._db.execute(statement, project=project)
