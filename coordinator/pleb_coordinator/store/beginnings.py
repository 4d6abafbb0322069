"""Where the searches for unsent assignments begin.

No assignment becomes unsent again, and new ones have higher numbers: so the first one that is
unsent only moves on. SQLite's index has nothing before it. PostgreSQL's keeps all that was given
out for as long as anybody holds an older snapshot, and each search would pass all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.store.queries import beginnings as sql

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Purpose
    from pleb_coordinator.store.engine import Connection

__all__ = ["Beginnings"]

_SEARCHES: Final = 64
"""Of so many the first one looks where they begin: they pass at most what the others gave out."""


class Beginnings:
    """The first unsent assignment, by project, purpose and whether only trusted hosts may have it.

    It is looked for only while the transaction has changed nothing, since what it gives out may be
    undone.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, Purpose, bool], tuple[int, int]] = {}

    def find(self, db: Connection, project: int, purpose: Purpose, *, trusted_only: bool) -> int:
        """Return a number that no unsent assignment is below."""
        place = project, purpose, trusted_only
        first, searches = self._known.get(place, (0, _SEARCHES))
        if searches >= _SEARCHES and not db.has_changed:
            found = db.execute(
                sql.FIRST_UNSENT,
                project=project,
                purpose=purpose,
                trusted_only=trusted_only,
                first=first,
            ).fetchone()
            first, searches = (first if found is None else found[0]), 0
        self._known[place] = first, searches + 1
        return first
