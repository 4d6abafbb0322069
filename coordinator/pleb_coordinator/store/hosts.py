"""Hosts, invites to enrol them, and what their calibrations say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.peers import MOST_CANDIDATES
from pleb_coordinator.core.records import (
    Adopted,
    Alarm,
    CalibrationClass,
    Conviction,
    Departed,
    Fleet,
    Host,
    Invite,
    Record,
)
from pleb_coordinator.core.reputation import Standing, new_alarm
from pleb_coordinator.core.voices import NETWORKS_KEPT, NETWORKS_SECONDS, Party
from pleb_coordinator.store.queries import hosts as sql
from pleb_coordinator.store.rows import Rows, TableGroup
from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from pleb_shared.protocol.messages import Role

__all__ = ["ANY_MEMORY", "Calibrations", "Hosts", "Invites", "NewHost", "Seen"]

ANY_MEMORY: Final = 2**62
"""Of a host that does not say how much it has, in bytes."""
_ADOPTED: Final = Rows(Adopted)
_ALARM: Final = Rows(Alarm)
_CLASS: Final = Rows(CalibrationClass)
_CONVICTION: Final = Rows(Conviction)
_HOST: Final = Rows(Host)
_INVITE: Final = Rows(Invite)
_STANDING: Final = Rows(Standing)


class NewHost(Record, frozen=True):
    """A host that enrols."""

    project: int
    fingerprint: str
    key: str
    account: str
    role: Role
    network: str
    display_name: str
    agent: str
    team: str = ""
    """The team that its account joins; empty: the one that the account has."""
    proven: bool = False
    """Whether its results count from the start."""
    invite: str = ""
    """Hash of its invite; empty: it has none."""


class Seen(Record, frozen=True):
    """What a work request leaves in its host's row, and the reply in case it is repeated."""

    sequence: int
    request_digest: str
    reply: bytes
    network: str
    agent: str
    at: float
    asked: bool
    """Whether it asked for units (`max_units` > 0)."""
    refuses: str = ""
    memory_bytes: int | None = None
    shards: str | None = None
    """The first shards of its last units, as `Host.shards`; None: as before."""
    paced_until: float | None = None
    """When it may have its next exam or first try; None: as before."""


class Hosts(TableGroup):
    """Hosts and their standing."""

    def find(self, project: int, fingerprint: str) -> Host:
        """Return the host. Raises `Refusal` unknown_host."""
        found = self._db.execute(sql.FIND_HOST, project=project, fingerprint=fingerprint)
        return _known(_HOST.first(found))

    def find_of(self, project: str, fingerprint: str) -> Host:
        """Return the host of the project of that name. Raises `Refusal` unknown_host."""
        found = self._db.recall(sql.FIND_HOST_OF, name=project, fingerprint=fingerprint)
        return _known(_HOST.record(found[0]) if found else None)

    def of_id(self, host: int) -> Host | None:
        """Return the host with that id; None: it was removed (`steps.retain`)."""
        return _HOST.first(self._db.execute(sql.GET_HOST, host=host))

    def sharing(self, hosts: Sequence[int], now: float) -> dict[int, list[int]]:
        """Return by id the first shards of the last units of those that are here, not banned.

        Raises `ValueError`: there are more than `MOST_CANDIDATES`.
        """
        if not hosts:
            return {}
        padded = [*hosts, *[hosts[0]] * (MOST_CANDIDATES - len(hosts))]
        names = {
            f"host{number}": host
            for number, host in zip(range(MOST_CANDIDATES), padded, strict=True)
        }
        found = self._db.execute(sql.SHARING_HOSTS, now=now, **names)
        return {host: [int(first) for first in shards.split()] for host, shards in found}

    def get(self, host: int) -> Host:
        """Return the host with that id. Raises `LookupError`."""
        row = self.of_id(host)
        if row is None:
            message = f"There is no host {host}."
            raise LookupError(message)
        return row

    def of_unit(self, unit: int) -> dict[int, Host]:
        """Return by id the hosts that have had a copy of the unit, the first one first."""
        return {host.id: host for host in _HOST.all(self._db.execute(sql.HOSTS_OF_UNIT, unit=unit))}

    def parties(self, unit: int, hosts: Collection[Host], now: float) -> dict[int, Party]:
        """Return by id the `party` of each of these hosts, which have had a copy of the unit."""
        networks: dict[int, set[str]] = {host.id: set() for host in hosts}
        since = now - NETWORKS_SECONDS
        for host, name in self._db.execute(sql.NETWORKS_OF_UNIT, unit=unit, since=since):
            networks[host].add(name)
        return {
            host.id: Party(host.id, host.account, host.team, frozenset(networks[host.id]))
            for host in hosts
        }

    def of_account(self, project: int, account: str) -> list[Host]:
        """Return the hosts of an account."""
        return _HOST.all(self._db.execute(sql.HOSTS_OF_ACCOUNT, project=project, account=account))

    def first_class(self, unit: int) -> str:
        """Return the determinism class of the first host in `of_unit`; empty: there is none."""
        return str(self._value(sql.FIRST_CLASS, unit=unit) or "")

    def of_project(self, project: int, *, limit: int) -> list[Host]:
        """Return hosts, most recently seen first."""
        return _HOST.all(self._db.execute(sql.HOSTS, project=project, limit=limit))

    def count(self, project: int) -> int:
        """Return how many hosts the project has."""
        return int(self._value(sql.COUNT_HOSTS, project=project))

    def more_than(self, project: int, number: int) -> bool:
        """Whether the project has more hosts than that."""
        return self._exists(sql.MANY_HOSTS, project=project, number=number)

    def named(self, project: int, given: str, *, limit: int) -> list[Host]:
        """Return hosts whose fingerprint begins with `given`, else those with that name."""
        first, after = given, given + "\U0010ffff"
        found = _HOST.all(
            self._db.execute(
                sql.HOSTS_BY_FINGERPRINT, project=project, first=first, after=after, limit=limit
            )
        )
        return found or _HOST.all(
            self._db.execute(sql.HOSTS_BY_NAME, project=project, name=given, limit=limit)
        )

    def enrol(self, new: NewHost, now: float) -> Host:
        """Add the host, or update its role (never downwards), names and network; return it."""
        values = msgspec.structs.asdict(new)
        team = values.pop("team")
        cursor = self._db.execute(sql.ENROL, now=now, **values)
        host = _HOST.record(cursor.fetchone())
        self.note_network(host.id, new.network, now)
        if team:  # of the account that the host has had from the start
            self.set_team(host.project, host.account, team)
            host = msgspec.structs.replace(host, team=team)
        return host

    def adopt(self, found: Iterable[Adopted]) -> None:
        """Add hosts that another coordinator tells of; those that are here get that on top."""
        self._db.execute_each(sql.ADOPT_HOST, map(_ADOPTED.parameters, found))

    def adopt_accounts(self, found: Iterable[Departed]) -> None:
        """Add what another coordinator tells of accounts whose hosts are gone."""
        self._db.execute_each(sql.ADOPT_ACCOUNT, map(msgspec.structs.asdict, found))

    def set_team(self, project: int, account: str, team: str) -> None:
        """Let an account belong to a team, with all its hosts; empty: to none."""
        for statement in sql.SET_TEAM:
            self._db.execute(statement, project=project, account=account, team=team)

    def note_network(self, host: int, network: str, at: float) -> None:
        """Remember that a host was seen in a network; only the last few are kept."""
        if network:
            self._db.execute(sql.NOTE_NETWORK, host=host, network=network, at=at)
            self._db.execute(sql.KEEP_NETWORKS, host=host, kept=NETWORKS_KEPT)

    def party(self, host: Host, now: float) -> Party:
        """Return whose voice the host is, by its account, team and networks of the last weeks."""
        rows = self._db.execute(sql.NETWORKS, host=host.id, since=now - NETWORKS_SECONDS)
        return Party(host.id, host.account, host.team, frozenset(name for (name,) in rows))

    def forget_networks(self, renamed: Callable[[str], bool]) -> None:
        """Forget the networks whose name is not what hosts in them would get now."""
        for (name,) in self._db.execute(sql.NETWORK_NAMES).fetchall():
            if renamed(name):
                self._db.execute(sql.FORGET_NETWORK, network=name)
                self._db.execute(sql.FORGET_NETWORK_OF_HOSTS, network=name)

    def nth_newcomer(self, project: int, network: str, number: int) -> float | None:
        """Return when the host enrolled that is the `number`-th newest from a network, or None."""
        found = self._value(sql.NTH_NEWCOMER, project=project, network=network, before=number - 1)
        return None if found is None else float(found)

    def unproven_from(self, project: int, network: str, since: float) -> int:
        """Return how many hosts from a network were seen since then and are not proven yet."""
        return int(self._value(sql.UNPROVEN_FROM, project=project, network=network, since=since))

    def saw(self, host: int, seen: Seen) -> None:
        """Store a request and its reply."""
        values = msgspec.structs.asdict(seen)
        reply = values.pop("reply")
        self._db.execute(sql.SAW, host=host, **values)
        self._db.execute(sql.PUT_REPLY, host=host, reply=reply)

    def reply(self, host: int) -> bytes:
        """Return the reply to the last request; empty: there was none."""
        return bytes(self._value(sql.GET_REPLY, host=host) or b"")

    def set_runtime(self, host: int, runtime: str, determinism_class: str) -> None:
        """Store what the host computes with; an empty class asks for a calibration."""
        self._db.execute(
            sql.SET_RUNTIME, host=host, runtime=runtime, determinism_class=determinism_class
        )

    def set_speed(self, host: int, seconds_per_step: float) -> None:
        """Store the host's speed."""
        self._db.execute(sql.SET_SPEED, host=host, seconds_per_step=seconds_per_step)

    def set_standing(self, host: int, standing: Standing) -> None:
        """Store the host's standing."""
        self._db.execute(sql.SET_STANDING, host=host, **_STANDING.parameters(standing))

    def set_fastest(self, host: int, seconds: float) -> None:
        """Store the least time of a step in the host's recent confirmed results."""
        self._db.execute(sql.SET_FASTEST, host=host, seconds=seconds)

    def proven(self, project: int) -> list[int]:
        """Return the ids of all proven hosts, seen lately or not."""
        return [host for (host,) in self._db.execute(sql.PROVEN_HOSTS, project=project)]

    def fleet(self, project: int, since: float) -> Fleet:
        """Return what is known of the hosts that are not banned and asked for work since then.

        Accounts of one team or one network count as one; trusted hosts are left out.
        """
        where = {"project": project, "since": since}
        accounts, proven, new, timed = self._db.execute(sql.COUNT_FLEET, **where).fetchone()
        place = max(0, timed - 1) // 2
        median = self._value(sql.MEDIAN_STEP_SECONDS, place=place, **where)
        return Fleet(accounts, proven, new, float(median or 0.0))

    def trusted(self, project: int, since: float, memory_bytes: int = 0) -> int:
        """Return how many trusted hosts with that much memory were seen since then."""
        where = {"project": project, "since": since, "memory_bytes": memory_bytes}
        return int(self._value(sql.COUNT_TRUSTED, **where))

    def set_upload_speed(self, host: int, bytes_per_second: float) -> None:
        """Store how fast the host's deltas come."""
        self._db.execute(sql.SET_UPLOAD_SPEED, host=host, speed=bytes_per_second)

    def strong(self, project: int, since: float, memory_bytes: int) -> int:
        """Return how many hosts with that much memory, or of which it is not known, asked since."""
        where = {"project": project, "since": since, "memory_bytes": memory_bytes}
        return int(self._value(sql.COUNT_STRONG, **where))

    def trusted_memory(self, project: int, since: float) -> int:
        """Return the most memory that a trusted host has which was seen since then, in bytes.

        -1: there is none; a host that does not say how much it has may have any.
        """
        where = {"project": project, "since": since, "any_memory": ANY_MEMORY}
        found = self._value(sql.TRUSTED_MEMORY, **where)
        return -1 if found is None else int(found)

    def trusted_asking(
        self, project: int, since: float, memory_bytes: int
    ) -> tuple[int, float | None]:
        """Return how many trusted hosts with that much memory have asked for work since then.

        And the seconds per step of the fastest; None: no speed is known.
        """
        where = {"project": project, "since": since, "memory_bytes": memory_bytes}
        count, seconds = self._db.execute(sql.TRUSTED_ASKING, **where).fetchone()
        return int(count), seconds

    def add_conviction(self, conviction: Conviction) -> None:
        """Remember a conviction on volunteers' word, in case a trusted host refutes it."""
        self._db.execute(sql.ADD_CONVICTION, **_CONVICTION.parameters(conviction))

    def take_conviction(self, unit: int, host: int) -> Conviction | None:
        """Remove and return the host's conviction for that unit, or None."""
        return _CONVICTION.first(self._db.execute(sql.TAKE_CONVICTION, unit=unit, host=host))

    def convicted_for(self, unit: int) -> set[int]:
        """Return the hosts that were convicted for that unit on volunteers' word."""
        return {host for (host,) in self._db.execute(sql.CONVICTED_FOR, unit=unit)}

    def alarm(self, project: int) -> Alarm:
        """Return how much the project checks beyond the least."""
        found = _ALARM.first(self._db.execute(sql.GET_ALARM, project=project))
        return new_alarm(project) if found is None else found

    def put_alarm(self, alarm: Alarm) -> None:
        """Store how much the project checks."""
        self._db.execute(sql.PUT_ALARM, **_ALARM.parameters(alarm))


class Calibrations(TableGroup):
    """Determinism classes: which hosts belong to them, and the distances between them."""

    def class_of(self, host: int, runtime: str) -> str:
        """Return the class that the host had with that runtime; empty: none."""
        return str(self._value(sql.CLASS_OF, host=host, runtime=runtime) or "")

    def record(
        self, host: Host, runtime: str, digest: str, seconds_per_step: float, now: float
    ) -> None:
        """Store a host's calibration, and count the voices of its class."""
        self._db.execute(
            sql.ADD_CALIBRATION,
            host=host.id,
            runtime=runtime,
            project=host.project,
            account=host.account,
            trusted=host.trusted,
            digest=digest,
            seconds_per_step=seconds_per_step,
            now=now,
        )
        self._db.execute(sql.COUNT_CLASS, project=host.project, digest=digest)

    def add_class(self, project: int, digest: str, assignment: int, now: float) -> None:
        """Add a class whose bytes are those of `assignment`, unless it is known."""
        self._db.execute(
            sql.ADD_CLASS, project=project, digest=digest, assignment=assignment, now=now
        )

    def find_class(self, project: int, digest: str) -> CalibrationClass | None:
        """Return the class, or None."""
        found = self._db.recall(sql.FIND_CLASS, project=project, digest=digest)
        return _CLASS.record(found[0]) if found else None

    def classes(self, project: int) -> list[CalibrationClass]:
        """Return all classes, oldest first."""
        return _CLASS.all(self._db.execute(sql.CLASSES, project=project))

    def unmeasured(self, project: int) -> list[CalibrationClass]:
        """Return classes whose distances are not known yet, oldest first."""
        return [found for found in self.classes(project) if not found.measured]

    def set_measured(self, project: int, digest: str, *, measured: bool) -> None:
        """Store whether the class's distances to those it must be compared with are known."""
        self._db.execute(sql.SET_MEASURED, project=project, digest=digest, measured=measured)

    def runtimes_since(self, host: int, since: float) -> int:
        """Return how many runtimes the host has calibrated after `since`."""
        return int(self._value(sql.RUNTIMES_SINCE, host=host, since=since))

    def set_isolated(self, project: int, digest: str, isolated: bool) -> None:
        """Store whether the class can only be compared with itself."""
        self._db.execute(sql.SET_ISOLATED, project=project, digest=digest, isolated=isolated)

    def put_distance(self, project: int, first: str, second: str, distance: float) -> None:
        """Store the distance between two classes: the largest over all tensors."""
        self._db.execute(
            sql.PUT_DISTANCE, project=project, first=first, second=second, distance=distance
        )

    def distances(self, project: int) -> dict[tuple[str, str], float]:
        """Return the stored distances."""
        rows = self._db.execute(sql.DISTANCES, project=project)
        return {(first, second): distance for first, second, distance in rows}


class Invites(TableGroup):
    """Invites, by the SHA-256 of their token."""

    def add(self, invite: Invite) -> None:
        """Add an invite."""
        self._db.execute(sql.ADD_INVITE, **_INVITE.parameters(invite))

    def find(self, token_hash: str) -> Invite | None:
        """Return the invite, or None."""
        return _INVITE.first(self._db.execute(sql.FIND_INVITE, token_hash=token_hash))

    def use(self, token_hash: str, now: float) -> bool:
        """Use an invite once more; False: it was used as often as it may be, or is revoked."""
        return self._changed(sql.USE_INVITE, token_hash=token_hash, now=now)

    def revoke(self, token_hash: str) -> bool:
        """Revoke what is left of an invite; False: it is used up."""
        return self._changed(sql.REVOKE_INVITE, token_hash=token_hash)

    def all(self) -> list[Invite]:
        """Return all invites, newest first."""
        return _INVITE.all(self._db.execute(sql.INVITES))


def _known(host: Host | None) -> Host:
    if host is None:
        message = "This host is not known to the project: enrol first."
        raise Refusal(RefusalCode.UNKNOWN_HOST, message)
    return host
