"""The embedded store: one SQLite file in WAL mode, durable at every commit.

Two connections: one writes (BEGIN IMMEDIATE, so that two writers queue up instead of failing
half-way), one reads. `synchronous=FULL` makes a commit survive a power cut.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pleb_coordinator.store.sqlite_fleet import (
    SqliteCalibrations,
    SqliteEvents,
    SqliteHosts,
    SqliteInvites,
    SqliteUploads,
)
from pleb_coordinator.store.sqlite_projects import (
    MetadataCache,
    SqliteProjects,
    SqliteRounds,
    SqliteVersions,
)
from pleb_coordinator.store.sqlite_views import SqliteViews
from pleb_coordinator.store.sqlite_work import SqliteAssignments, SqliteShares, SqliteUnits
from pleb_shared.errors import InputError, Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SCHEMA_REVISION", "SqliteStore", "SqliteTransaction"]

SCHEMA_REVISION: Final = "0001"
"""The migration that this code needs."""
_BUSY_SECONDS: Final = 30.0
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 40000",  # pages; `store.checkpoint` does it long before
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -8192",
    "PRAGMA mmap_size = 268435456",
)


class SqliteTransaction:
    """The tables on one connection; implements `store.interface.Transaction`."""

    def __init__(self, connection: sqlite3.Connection, decoded: MetadataCache) -> None:
        self._db = connection
        self.projects = SqliteProjects(connection, decoded)
        self.versions = SqliteVersions(connection)
        self.rounds = SqliteRounds(connection)
        self.units = SqliteUnits(connection)
        self.assignments = SqliteAssignments(connection)
        self.shares = SqliteShares(connection)
        self.hosts = SqliteHosts(connection)
        self.calibrations = SqliteCalibrations(connection)
        self.uploads = SqliteUploads(connection)
        self.invites = SqliteInvites(connection)
        self.events = SqliteEvents(connection)
        self.views = SqliteViews(connection)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what happens inside, and only that, if it raises."""
        self._db.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK TO part")
            raise
        finally:
            self._db.execute("RELEASE part")


class SqliteStore:
    """Implements `store.interface.Store` on one file.

    Raises:
        InputError: the file is not there, or its schema is not the one that this code needs.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            message = f"There is no store at {path}: run `pleb-coordinator init`."
            raise InputError(message)
        decoded: MetadataCache = {}
        try:
            self._writer = _connect(path)
            self._reader = _connect(path)
            _check_schema(self._reader, path)
        except sqlite3.DatabaseError as error:
            message = f"{path} is not a coordinator's store: {error}. Give another --home."
            raise InputError(message) from error
        self._write = SqliteTransaction(self._writer, decoded)
        self._read = SqliteTransaction(self._reader, decoded)
        self._seen = -1

    @contextmanager
    def read(self) -> Iterator[SqliteTransaction]:
        """Open a transaction that sees one state of the store and changes nothing."""
        self._reader.execute("BEGIN")
        try:
            yield self._read
        finally:
            self._reader.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[SqliteTransaction]:
        """Open a transaction that commits at its end; on an exception it leaves no trace.

        Raises:
            Refusal: `storage_full`, or `internal` where another process blocks the store.
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            yield self._write
            self._writer.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise _translated(error) from error
        finally:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def changed(self) -> bool:
        """Whether anybody, in any process, has committed since the last time this was asked."""
        now = self._reader.execute("PRAGMA data_version").fetchone()[0]
        before, self._seen = self._seen, now
        return bool(now != before)

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._reader.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None or row[0] != SCHEMA_REVISION:
        found = "none" if row is None else row[0]
        message = (
            f"{path} has schema {found}, this program needs {SCHEMA_REVISION}: "
            "run `pleb-coordinator migrate`."
        )
        raise InputError(message)


def _translated(error: sqlite3.OperationalError) -> Exception:
    """Return what SQLite's message means to a caller; other faults pass as they are."""
    text = str(error)
    if "full" in text:
        message = "The coordinator's disk is full: try again later."
        return Refusal(RefusalCode.STORAGE_FULL, message, retry_after_seconds=300)
    if "locked" in text or "busy" in text:
        message = "The coordinator's store is busy: try again."
        return Refusal(RefusalCode.INTERNAL, message, retry_after_seconds=5)
    return error
