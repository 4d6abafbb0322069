"""What people look at: the event log, totals, contributors and teams; no step reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.coverage import Given
from pleb_coordinator.core.records import Event, Record
from pleb_coordinator.store.fleets import Fleets, Team
from pleb_coordinator.store.queries import views as sql
from pleb_coordinator.store.rows import Rows, TableGroup
from pleb_shared.protocol.fleet_records import FleetRecord
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Contributor", "Events", "FleetView", "Totals", "Views"]

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
    undecided: int
    """Results of this epoch that wait for a verdict."""
    credit: float
    """FLOPs of verified work."""


class Contributor(Record, frozen=True):
    """An account with what its hosts have computed."""

    account: str
    display_name: str
    hosts: int
    units_valid: int
    credit: float
    team: str = ""


class FleetView(Record, frozen=True):
    """A fleet as people see it."""

    totals: Totals
    contributors: tuple[Contributor, ...]
    teams: tuple[Team, ...]


_REASON: Final = msgspec.json.Decoder(Reason)
_TOTALS: Final = msgspec.json.Decoder(Totals)
_CONTRIBUTORS: Final = msgspec.json.Decoder(tuple[Contributor, ...])
_TEAMS: Final = msgspec.json.Decoder(tuple[Team, ...])


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

    def cases_of(self, project: int, host: int, limit: int) -> list[Event]:
        """Return what the project's newest events say of a host's standing, oldest first."""
        return _EVENT.all(
            self._db.execute(sql.CASES_OF_HOST, project=project, host=host, limit=limit)
        )

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
            undecided=self._value(sql.UNDECIDED, project=project),
            credit=credit,
        )

    def fleet_records(self, project: int) -> Iterator[FleetRecord]:
        """Return what another coordinator is told of the project's hosts and accounts.

        All rows are read here; they become records as they are iterated, in any thread.
        """
        return map(_told, self._db.execute(sql.FLEET_RECORDS, project=project).fetchall())

    def shards_given(
        self, project: int, epoch: int, since: int, *, seen: float, most: int
    ) -> list[Given]:
        """Return which shards hosts were given that asked after `seen`, in rounds from `since` on.

        `most`: of them at most.
        """
        values = {"project": project, "epoch": epoch, "since": since, "seen": seen, "most": most}
        return [Given(*row) for row in self._db.execute(sql.SHARDS_GIVEN, **values)]

    def fleet(self, project: int, *, ban_after: int, most: int, oldest: float) -> FleetView:
        """Return totals and `most` contributors and teams, those with most credit first.

        They are as they were stored after `oldest`, else as they are. What hosts have in hand is
        never an old number.
        """
        row = self._db.execute(sql.GET_FLEET_VIEW, project=project).fetchone()
        if row is None or row[0] < oldest:
            return FleetView(
                self.totals(project, ban_after),
                tuple(self.contributors(project, most)),
                tuple(Fleets(self._db).teams(project, ban_after=ban_after, limit=most)),
            )
        totals = _TOTALS.decode(row[1])
        totals = msgspec.structs.replace(
            totals,
            in_flight=self._value(sql.IN_FLIGHT, project=project),
            undecided=self._value(sql.UNDECIDED, project=project),
        )
        contributors, teams = _CONTRIBUTORS.decode(row[2]), _TEAMS.decode(row[3])
        return FleetView(totals, contributors[:most], teams[:most])

    def store_fleet(self, project: int, at: float, view: FleetView) -> None:
        """Keep a view of a large fleet, which takes long to read."""
        self._db.execute(
            sql.PUT_FLEET_VIEW,
            project=project,
            at=at,
            totals=_ENCODE(view.totals),
            contributors=_ENCODE(view.contributors),
            teams=_ENCODE(view.teams),
        )

    def unsent_after(self, project: int, number: int) -> tuple[int, list[int | None]]:
        """Return the last assignment's number, and for whom those after `number` wait.

        None: for anybody.
        """
        rows = self._db.execute(sql.ADDED_AFTER, project=project, number=number).fetchall()
        last = rows[-1][0] if rows else number
        return last, [host for _, state, host in rows if state == AssignmentState.UNSENT]

    def contributors(self, project: int, limit: int) -> list[Contributor]:
        """Return accounts, most credit first."""
        rows = self._db.execute(sql.CONTRIBUTORS, project=project, limit=limit)
        return [Contributor(*row) for row in rows]


def _told(row: Sequence[Any]) -> FleetRecord:
    key, account, name, team, credit, units, record, refused, bans, banned_until, why, seen = row
    return FleetRecord(
        key=key,
        account=account,
        display_name=name,
        team=team,
        credit=min(credit, LIMITS.credit),
        units_valid=units,
        record=record,
        refused=refused,
        bans=bans,
        banned_until=min(banned_until, 2.0**53),
        ban_reason=None if why is None else _REASON.decode(why),
        last_seen=seen,
    )
