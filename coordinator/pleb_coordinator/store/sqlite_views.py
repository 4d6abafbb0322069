"""What people look at, in SQLite: totals and lists; `store.interface.Views` says what each is."""
# ruff: noqa: D102

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import UnitRow
from pleb_coordinator.store.interface import Contributor, Totals

if TYPE_CHECKING:
    import sqlite3

__all__ = ["SqliteViews"]

_FLEET: Final = """
SELECT count(*), count(DISTINCT account), coalesce(sum(units_valid), 0),
       coalesce(sum(refused), 0), coalesce(sum(bans), 0), coalesce(sum(credit), 0.0)
FROM hosts WHERE project = ?
"""
_IN_FLIGHT: Final = """
SELECT count(*) FROM assignments WHERE state IN ('leased', 'uploading') AND project = ?
"""
_CONTRIBUTORS: Final = """
SELECT account, max(display_name), count(*), sum(units_valid), sum(credit)
FROM hosts WHERE project = ? GROUP BY account
ORDER BY sum(credit) DESC, sum(units_valid) DESC, account LIMIT ?
"""
_UNITS: Final = """
SELECT * FROM units WHERE project = ? ORDER BY epoch DESC, version DESC, kind, position LIMIT ?
"""


class SqliteViews:
    """Implements `store.interface.Views`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def totals(self, project: int, ban_after: int) -> Totals:
        row = self._db.execute(_FLEET, (project,)).fetchone()
        hosts, accounts, verified, refused, bans, credit = row
        in_flight = self._db.execute(_IN_FLIGHT, (project,)).fetchone()[0]
        return Totals(
            hosts=hosts,
            accounts=accounts,
            verified=verified,
            refused=refused + bans * ban_after,
            in_flight=in_flight,
            credit=credit,
        )

    def contributors(self, project: int, limit: int) -> list[Contributor]:
        return [Contributor(*row) for row in self._db.execute(_CONTRIBUTORS, (project, limit))]

    def units(self, project: int, limit: int) -> list[UnitRow]:
        return [UnitRow(*row) for row in self._db.execute(_UNITS, (project, limit))]
