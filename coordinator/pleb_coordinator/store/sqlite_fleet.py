"""Hosts, calibrations, uploads, invites and the log in SQLite; see `store.interface`."""
# ruff: noqa: D102

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pleb_coordinator.core.records import CalibrationClass, Event, Host, Invite, Upload
from pleb_coordinator.store import sqlite_queries as sql
from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    import sqlite3

    from pleb_coordinator.core.reputation import Standing
    from pleb_coordinator.store.interface import NewHost, Seen

__all__ = ["SqliteCalibrations", "SqliteEvents", "SqliteHosts", "SqliteInvites", "SqliteUploads"]


class SqliteHosts:
    """Implements `store.interface.Hosts`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def find(self, project: int, fingerprint: str) -> Host:
        row = self._db.execute(sql.FIND_HOST, (project, fingerprint)).fetchone()
        if row is None:
            message = "This host is not known to the project: enrol first."
            raise Refusal(RefusalCode.UNKNOWN_HOST, message)
        return Host(*row)

    def get(self, host: int) -> Host:
        row = self._db.execute(sql.GET_HOST, (host,)).fetchone()
        if row is None:
            message = f"There is no host {host}."
            raise LookupError(message)
        return Host(*row)

    def of_project(self, project: int, *, limit: int) -> list[Host]:
        return [Host(*row) for row in self._db.execute(sql.HOSTS, (project, limit))]

    def of_account(self, project: int, account: str) -> list[Host]:
        return [Host(*row) for row in self._db.execute(sql.HOSTS_OF_ACCOUNT, (project, account))]

    def enrol(self, new: NewHost, now: float) -> Host:
        self._db.execute(sql.ENROL, (*msgspec.structs.astuple(new), now, now))
        return self.find(new.project, new.fingerprint)

    def saw(self, host: int, seen: Seen) -> None:
        when = (seen.at, seen.asked, seen.at, host)
        parameters = (seen.sequence, seen.request_digest, seen.network, seen.agent, *when)
        self._db.execute(sql.SAW, parameters)
        self._db.execute(sql.PUT_REPLY, (host, seen.reply))

    def reply(self, host: int) -> bytes:
        row = self._db.execute(sql.GET_REPLY, (host,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def set_runtime(self, host: int, runtime: str, determinism_class: str) -> None:
        self._db.execute(sql.SET_RUNTIME, (runtime, determinism_class, host))

    def set_speed(self, host: int, seconds_per_step: float) -> None:
        self._db.execute(sql.SET_SPEED, (seconds_per_step, host))

    def set_last_shard(self, host: int, shard: int) -> None:
        self._db.execute(sql.SET_LAST_SHARD, (shard, host))

    def set_standing(self, host: int, standing: Standing) -> None:
        self._db.execute(sql.SET_STANDING, (*msgspec.structs.astuple(standing), host))

    def active_accounts(self, project: int, since: float) -> int:
        parameters = (project, since, since)
        return int(self._db.execute(sql.ACTIVE_ACCOUNTS, parameters).fetchone()[0])

    def has_trusted(self, project: int, since: float) -> bool:
        return self._db.execute(sql.HAS_TRUSTED, (project, since)).fetchone() is not None


class SqliteCalibrations:
    """Implements `store.interface.Calibrations`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def class_of(self, host: int, runtime: str) -> str:
        row = self._db.execute(sql.CLASS_OF, (host, runtime)).fetchone()
        return "" if row is None else str(row[0])

    def record(
        self, host: Host, runtime: str, digest: str, seconds_per_step: float, now: float
    ) -> None:
        who = (host.id, runtime, host.project, host.account, host.trusted)
        self._db.execute(sql.ADD_CALIBRATION, (*who, digest, seconds_per_step, now))
        self._db.execute(sql.COUNT_CLASS, (host.project, digest))

    def add_class(self, project: int, digest: str, assignment: int, now: float) -> None:
        self._db.execute(sql.ADD_CLASS, (project, digest, assignment, now))

    def find_class(self, project: int, digest: str) -> CalibrationClass | None:
        row = self._db.execute(sql.FIND_CLASS, (project, digest)).fetchone()
        return None if row is None else CalibrationClass(*row)

    def classes(self, project: int) -> list[CalibrationClass]:
        return [CalibrationClass(*row) for row in self._db.execute(sql.CLASSES, (project,))]

    def unmeasured(self, project: int) -> list[CalibrationClass]:
        return [found for found in self.classes(project) if not found.measured]

    def set_measured(self, project: int, digest: str, *, measured: bool) -> None:
        self._db.execute(sql.SET_MEASURED, (measured, project, digest))

    def runtimes_since(self, host: int, since: float) -> int:
        return int(self._db.execute(sql.RUNTIMES_SINCE, (host, since)).fetchone()[0])

    def set_isolated(self, project: int, digest: str, isolated: bool) -> None:
        self._db.execute(sql.SET_ISOLATED, (isolated, project, digest))

    def put_distance(self, project: int, first: str, second: str, distance: float) -> None:
        self._db.execute(sql.PUT_DISTANCE, (project, first, second, distance))

    def distances(self, project: int) -> dict[tuple[str, str], float]:
        rows = self._db.execute(sql.DISTANCES, (project,))
        return {(first, second): distance for first, second, distance in rows}


class SqliteUploads:
    """Implements `store.interface.Uploads`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def add(self, upload: Upload) -> None:
        self._db.execute(sql.ADD_UPLOAD, msgspec.structs.astuple(upload))

    def get(self, token: str) -> Upload:
        row = self._db.execute(sql.GET_UPLOAD, (token,)).fetchone()
        if row is None:
            message = "There is no such upload (any more): report the result again."
            raise Refusal(RefusalCode.UNKNOWN_UPLOAD, message)
        return Upload(*row)

    def of_assignment(self, assignment: int) -> Upload | None:
        row = self._db.execute(sql.UPLOAD_OF_ASSIGNMENT, (assignment,)).fetchone()
        return None if row is None else Upload(*row)

    def open_blob(self, project: int, digest: str) -> Upload | None:
        row = self._db.execute(sql.OPEN_BLOB, (digest, project)).fetchone()
        return None if row is None else Upload(*row)

    def complete(self, token: str) -> bool:
        return self._db.execute(sql.COMPLETE_UPLOAD, (token,)).rowcount == 1

    def remove(self, token: str) -> None:
        self._db.execute(sql.REMOVE_UPLOAD, (token,))

    def take_expired(self, now: float, limit: int) -> list[str]:
        tokens = [token for (token,) in self._db.execute(sql.EXPIRED_UPLOADS, (now, limit))]
        self._db.executemany(sql.REMOVE_UPLOAD, [(token,) for token in tokens])
        return tokens


class SqliteInvites:
    """Implements `store.interface.Invites`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def add(self, invite: Invite) -> None:
        self._db.execute(sql.ADD_INVITE, msgspec.structs.astuple(invite))

    def find(self, token_hash: str) -> Invite | None:
        row = self._db.execute(sql.FIND_INVITE, (token_hash,)).fetchone()
        return None if row is None else Invite(*row)

    def use(self, token_hash: str, now: float) -> bool:
        return self._db.execute(sql.USE_INVITE, (now, token_hash)).rowcount == 1

    def revoke(self, token_hash: str) -> bool:
        return self._db.execute(sql.REVOKE_INVITE, (token_hash,)).rowcount == 1

    def all(self) -> list[Invite]:
        return [Invite(*row) for row in self._db.execute(sql.INVITES)]


class SqliteEvents:
    """Implements `store.interface.Events`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._encode = msgspec.json.Encoder().encode

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
        self._db.execute(sql.ADD_EVENT, (project, at, kind, unit, host, self._encode(detail)))

    def after(self, project: int, seq: int, limit: int) -> list[Event]:
        return [Event(*row) for row in self._db.execute(sql.EVENTS_AFTER, (project, seq, limit))]

    def last(self, project: int, limit: int) -> list[Event]:
        rows = self._db.execute(sql.LAST_EVENTS, (project, limit)).fetchall()
        return [Event(*row) for row in reversed(rows)]

    def of_unit(self, unit: int) -> list[Event]:
        return [Event(*row) for row in self._db.execute(sql.EVENTS_OF_UNIT, (unit,))]
