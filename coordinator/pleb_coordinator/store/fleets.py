"""What an operator looks at: how fast a project goes, its hosts by class and by network."""

from __future__ import annotations

from pleb_coordinator.core.records import Record
from pleb_coordinator.store.queries import fleets as sql
from pleb_coordinator.store.rows import TableGroup

__all__ = ["Account", "ClassOfHosts", "Fleets", "NetworkOfHosts", "Team"]


class ClassOfHosts(Record, frozen=True):
    """The hosts of one determinism class."""

    digest: str
    """Of its calibration; empty: hosts that have none yet."""
    hosts: int
    active: int
    trusted: int
    proven: int
    suspended: int
    convicted: int
    """Hosts with results that were proven wrong."""
    banned: int


class NetworkOfHosts(Record, frozen=True):
    """Several accounts that were last seen in one network."""

    network: str
    hosts: int
    accounts: int
    proven: int
    convicted: int
    banned: int


class Account(Record, frozen=True):
    """A volunteer, with what all hosts of the account have done, also those that are gone."""

    account: str
    """The fingerprint of its key."""
    display_name: str
    team: str
    hosts: int
    verified: int
    refused: int
    credit: float
    """FLOPs of verified work."""


class Team(Record, frozen=True):
    """Accounts that are one voice, with what they have done."""

    team: str
    accounts: int
    hosts: int
    verified: int
    refused: int
    credit: float


class Fleets(TableGroup):
    """Sums over hosts, versions and events; no step reads them."""

    def event_counts(self, project: int, since: float, most: int) -> dict[str, int]:
        """Return by kind how many of the newest `most` events are not older than `since`."""
        rows = self._db.execute(sql.EVENT_COUNTS, project=project, since=since, limit=most)
        return {kind: count for kind, count in rows}  # noqa: C416 - rows are no pairs to mypy

    def versions_since(self, project: int, epoch: int, since: float) -> tuple[int, int]:
        """Return how many versions of the epoch were made since then, and of how many results."""
        versions, results = self._db.execute(
            sql.VERSIONS_SINCE, project=project, epoch=epoch, since=since
        ).fetchone()
        return int(versions), int(results)

    def classes(self, project: int, active_since: float, now: float) -> list[ClassOfHosts]:
        """Return the determinism classes, the largest first."""
        rows = self._db.execute(
            sql.HOSTS_BY_CLASS, project=project, active_since=active_since, now=now
        )
        return [ClassOfHosts(*row) for row in rows]

    def networks(
        self, project: int, *, least_accounts: int, now: float, limit: int
    ) -> list[NetworkOfHosts]:
        """Return networks with so many accounts, those with most convicted hosts first."""
        rows = self._db.execute(
            sql.HOSTS_BY_NETWORK, project=project, least=least_accounts, now=now, limit=limit
        )
        return [NetworkOfHosts(*row) for row in rows]

    def accounts(self, project: int, *, ban_after: int, limit: int) -> list[Account]:
        """Return accounts, most credit first; each ban counts as `ban_after` refused results."""
        rows = self._db.execute(sql.ACCOUNTS, project=project, ban_after=ban_after, limit=limit)
        return [Account(*row) for row in rows]

    def teams(self, project: int, *, ban_after: int, limit: int) -> list[Team]:
        """Return teams, most credit first."""
        rows = self._db.execute(sql.TEAMS, project=project, ban_after=ban_after, limit=limit)
        return [Team(*row) for row in rows]

    def refusing(self, project: int, since: float, limit: int) -> list[tuple[str, int]]:
        """Return why hosts seen since then refused the last answer, and how many did."""
        rows = self._db.execute(sql.REFUSING_HOSTS, project=project, since=since, limit=limit)
        return [(str(sentence), int(count)) for sentence, count in rows]
