"""What operators did, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.records import AuditEntry
from pleb_coordinator.store.queries import audit as sql
from pleb_coordinator.store.rows import Rows, TableGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Audit"]

_ENTRY: Final = Rows(AuditEntry)


class Audit(TableGroup):
    """The append-only log of the operators' commands."""

    def add(
        self, at: float, who: str, command: str, project: str, arguments: Mapping[str, object]
    ) -> None:
        """Append a command that was done."""
        self._db.execute(
            sql.ADD_AUDIT,
            at=at,
            who=who,
            command=command,
            project=project,
            arguments=msgspec.json.encode(arguments),
        )

    def last(self, project: str, limit: int) -> list[AuditEntry]:
        """Return the newest commands of a project, or of all if it is empty; oldest first."""
        rows = self._db.execute(sql.LAST_AUDIT, project=project, limit=limit)
        return _ENTRY.all(rows)[::-1]

    def any_before(self, before: float) -> bool:
        """Whether there is a command from before that time."""
        return self._exists(sql.ANY_OLD_AUDIT, before=before)

    def forget(self, before: float, limit: int) -> None:
        """Remove the oldest commands from before that time."""
        self._db.execute(sql.FORGET_AUDIT, before=before, limit=limit)
