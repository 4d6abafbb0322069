"""What people look at: the event log, totals and contributors; no step reads them."""

from __future__ import annotations

from typing import Final

import msgspec

from pleb_coordinator.core.records import Event, Record
from pleb_coordinator.store import queries as sql
from pleb_coordinator.store.rows import Rows, TableGroup

__all__ = ["Contributor", "Events", "Totals", "Views"]

_EVENT: Final = Rows(Event)
_ENCODE: Final = msgspec.json.Encoder().encode


class Totals(Record, frozen=True):
    """A project's fleet in numbers."""

    hosts: int
    accounts: int
    verified: int
    """Results that were found valid."""
    refused: int
    """Results that were proven wrong, those of banned hosts included."""
    in_flight: int
    """Assignments that are computed or uploaded."""
    credit: float
    """FLOPs of verified work."""


class Contributor(Record, frozen=True):
    """An account with what its hosts have computed."""

    account: str
    display_name: str
    hosts: int
    units_valid: int
    credit: float


class Events(TableGroup):
    """The append-only log that pages, `unit show` and `logs` read."""

    def add(
        self,
        project: int,
        at: float,
        kind: str,
        *,
        unit: int | None = None,
        host: int | None = None,
        **detail: object,
    ) -> None:
        """Append an event; `detail` becomes a JSON object."""
        self._db.execute(
            sql.ADD_EVENT,
            project=project,
            at=at,
            kind=kind,
            unit=unit,
            host=host,
            detail=_ENCODE(detail),
        )

    def after(self, project: int, seq: int, limit: int) -> list[Event]:
        """Return events of a project with numbers above `seq`, oldest first."""
        return _EVENT.all(self._db.execute(sql.EVENTS_AFTER, project=project, seq=seq, limit=limit))

    def last(self, project: int, limit: int) -> list[Event]:
        """Return the newest events of a project, oldest first."""
        found = _EVENT.all(self._db.execute(sql.LAST_EVENTS, project=project, limit=limit))
        return found[::-1]

    def of_unit(self, unit: int) -> list[Event]:
        """Return the events of a unit, oldest first."""
        return _EVENT.all(self._db.execute(sql.EVENTS_OF_UNIT, unit=unit))


class Views(TableGroup):
    """Totals and lists for people."""

    def totals(self, project: int, ban_after: int) -> Totals:
        """Return the fleet in numbers; each ban counts as `ban_after` refused results."""
        row = self._db.execute(sql.FLEET, project=project).fetchone()
        hosts, accounts, verified, refused, bans, credit = row
        return Totals(
            hosts=hosts,
            accounts=accounts,
            verified=verified,
            refused=refused + bans * ban_after,
            in_flight=self._value(sql.IN_FLIGHT, project=project),
            credit=credit,
        )

    def unsent_since(self, project: int, since: float) -> list[int | None]:
        """Return for whom assignments were added after `since` that still wait; None: anybody."""
        rows = self._db.execute(sql.UNSENT_SINCE, project=project, since=since)
        return [host for (host,) in rows]

    def contributors(self, project: int, limit: int) -> list[Contributor]:
        """Return accounts, most credit first."""
        rows = self._db.execute(sql.CONTRIBUTORS, project=project, limit=limit)
        return [Contributor(*row) for row in rows]
