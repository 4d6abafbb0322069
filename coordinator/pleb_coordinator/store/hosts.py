"""Hosts, invites to enrol them, and what their calibrations say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.records import CalibrationClass, Host, Invite, Record
from pleb_coordinator.core.reputation import Standing
from pleb_coordinator.store import queries as sql
from pleb_coordinator.store.rows import Rows, TableGroup
from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    from pleb_shared.protocol.messages import Role

__all__ = ["Calibrations", "Hosts", "Invites", "NewHost", "Seen"]

_CLASS: Final = Rows(CalibrationClass)
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


class Hosts(TableGroup):
    """Hosts and their standing."""

    def find(self, project: int, fingerprint: str) -> Host:
        """Return the host. Raises `Refusal` unknown_host."""
        host = _HOST.first(
            self._db.execute(sql.FIND_HOST, project=project, fingerprint=fingerprint)
        )
        if host is None:
            message = "This host is not known to the project: enrol first."
            raise Refusal(RefusalCode.UNKNOWN_HOST, message)
        return host

    def get(self, host: int) -> Host:
        """Return the host with that id. Raises `LookupError`."""
        row = _HOST.first(self._db.execute(sql.GET_HOST, host=host))
        if row is None:
            message = f"There is no host {host}."
            raise LookupError(message)
        return row

    def of_project(self, project: int, *, limit: int) -> list[Host]:
        """Return hosts, most recently seen first."""
        return _HOST.all(self._db.execute(sql.HOSTS, project=project, limit=limit))

    def enrol(self, new: NewHost, now: float) -> Host:
        """Add the host, or update its role (never downwards), names and network; return it."""
        cursor = self._db.execute(sql.ENROL, now=now, **msgspec.structs.asdict(new))
        return _HOST.record(cursor.fetchone())

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

    def set_last_shard(self, host: int, shard: int) -> None:
        """Store the first shard of the host's last unit."""
        self._db.execute(sql.SET_LAST_SHARD, host=host, shard=shard)

    def set_standing(self, host: int, standing: Standing) -> None:
        """Store the host's standing."""
        self._db.execute(sql.SET_STANDING, host=host, **_STANDING.parameters(standing))

    def active_accounts(self, project: int, since: float) -> int:
        """Return how many accounts that are not banned have asked for work since then."""
        return int(self._value(sql.ACTIVE_ACCOUNTS, project=project, since=since))

    def has_trusted(self, project: int, since: float) -> bool:
        """Whether a trusted host was seen since then."""
        return self._exists(sql.HAS_TRUSTED, project=project, since=since)


class Calibrations(TableGroup):
    """Determinism classes: which hosts belong to them, and the distances between them."""

    def class_of(self, host: int, runtime: str) -> str:
        """Return the class that the host had with that runtime; empty: none."""
        return str(self._value(sql.CLASS_OF, host=host, runtime=runtime) or "")

    def record(
        self, host: Host, runtime: str, digest: str, seconds_per_step: float, now: float
    ) -> None:
        """Store a host's calibration, and count the voices of its class.

        Accounts of one public network are one voice.
        """
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
        return _CLASS.first(self._db.execute(sql.FIND_CLASS, project=project, digest=digest))

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
        """Mark an invite as used; False: it is used already, or revoked."""
        return self._changed(sql.USE_INVITE, token_hash=token_hash, now=now)

    def revoke(self, token_hash: str) -> bool:
        """Revoke an invite; False: it is used already."""
        return self._changed(sql.REVOKE_INVITE, token_hash=token_hash)

    def all(self) -> list[Invite]:
        """Return all invites, newest first."""
        return _INVITE.all(self._db.execute(sql.INVITES))
