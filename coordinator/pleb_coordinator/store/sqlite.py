"""The store in a SQLite file in WAL mode, durable at every commit.

All that depends on SQLite is here; the SQL itself is in `store.queries`, for all engines. A writer
begins with BEGIN IMMEDIATE, so that two writers queue up instead of failing half-way.
`synchronous=FULL` makes a commit survive a power cut; one that need not gets NORMAL.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.records import (
    FileKind,
    Kept,
    ProjectState,
    Purpose,
)
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.store.engine import PROBES, check_revision, storage_full, store_is_busy
from pleb_coordinator.store.recall import Recalled
from pleb_shared.errors import InputError
from pleb_shared.protocol.messages import Role, Verdict
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["SqliteConnection", "is_used_by_others"]

_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 40000",  # pages; `store.checkpoint` does it long before
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -8192",
    "PRAGMA mmap_size = 268435456",
)

_ASK_SECONDS: Final = 0.001
"""Between two tries to be the writer."""

# SQLite takes these as they are too, but only after it has searched for an adapter each time.
sqlite3.register_adapter(bool, int)
for _kind in (
    AssignmentState,
    FileKind,
    Kept,
    ProjectState,
    Purpose,
    Role,
    UnitKind,
    UnitState,
    Verdict,
):
    sqlite3.register_adapter(_kind, str.__str__)


class SqliteConnection:
    """One connection, as `store.engine.Connection`.

    Raises:
        InputError: the file is not there, or its schema is not the one that this code needs.
    """

    def __init__(self, path: Path, busy_seconds: float) -> None:
        if not path.exists():
            message = f"There is no store at {path}: run `pleb-coordinator init`."
            raise InputError(message)
        self._busy_seconds = busy_seconds
        self._durable = True
        self._recalled = Recalled()
        self._recalls = False
        """Whether this transaction has looked if others have committed."""
        self._seen_commits = -1
        self._changes_before = 0
        """Of this transaction."""
        try:
            self._db = sqlite3.connect(
                path,
                timeout=busy_seconds,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            try:
                for pragma in _PRAGMAS:
                    self._db.execute(pragma)
                self._check_schema(path)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.OperationalError as error:
            message = (
                f"{path} cannot be used ({error}): check the owner and the permissions of its "
                "folder and of all in it, and the free disk space."
            )
            raise InputError(message) from error
        except sqlite3.DatabaseError as error:
            message = f"{path} is not a coordinator's store: {error}. Give another --home."
            raise InputError(message) from error

    def _check_schema(self, path: Path) -> None:
        row = self._db.execute("SELECT version_num FROM alembic_version").fetchone()
        check_revision(str(path), None if row is None else row[0])
        try:
            for probe in PROBES:
                self._db.execute(probe)
        except sqlite3.OperationalError as error:
            message = (
                f"{path} was made by a development version before the first release, and cannot be "
                f"brought up to date ({error}). Keep the folder as it is if you need its models; "
                "run `pleb-coordinator init` with another --home, publish the projects there, and "
                "let the volunteers attach by the new links."
            )
            raise InputError(message) from error

    def execute(self, sql: str, /, **parameters: object) -> sqlite3.Cursor:
        """Run a statement of `store.queries`.

        Raises:
            Refusal: `storage_full`, or `internal` while another process blocks the database.
        """
        self._recalled.forget(sql)
        try:
            return self._db.execute(sql, parameters)
        except sqlite3.OperationalError as error:
            raise _translated(error) from error

    def recall(self, sql: str, /, **parameters: object) -> list[Any]:
        """Return a query's rows, as `Connection.recall`."""
        if not self._recalls:
            self._recalls = True
            before, self._seen_commits = self._seen_commits, self.commit_count()
            if self._seen_commits != before:
                self._recalled.forget_all()
        found = self._recalled.find(sql, parameters)
        if found is None:
            found = self._recalled.keep(sql, parameters, self.execute(sql, **parameters).fetchall())
        return found

    @property
    def changes(self) -> int:
        """Return how many rows were changed so far, as `Connection.changes`."""
        return self._db.total_changes

    @property
    def has_changed(self) -> bool:
        """Whether this transaction has changed a row."""
        return self.changes != self._changes_before

    def expect(self, sql: str, /, **parameters: object) -> None:
        """A query is not waited for: it runs in this process."""

    def settle(self) -> None:
        """All statements have run: there is nobody to wait for."""

    def execute_each(self, sql: str, parameters: Iterable[Mapping[str, object]]) -> None:
        """Run a statement once for each set of parameters. Raises as `execute`."""
        self._recalled.forget(sql)
        try:
            self._db.executemany(sql, parameters)
        except sqlite3.OperationalError as error:
            raise _translated(error) from error

    def _run(self, sql: str) -> None:
        """Run a statement that changes no row. Raises as `execute`."""
        try:
            self._db.execute(sql)
        except sqlite3.OperationalError as error:
            raise _translated(error) from error

    def begin(self, *, write: bool, durable: bool = True) -> None:
        """Begin a transaction; only one at a time can write. Raises as `execute`.

        Its commit survives a power cut only if it is `durable`, and then it waits for the disk.
        """
        if durable != self._durable:
            self._run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._recalls, self._changes_before = False, self.changes
        if write:
            self._begin_writing()
        else:
            self._run("BEGIN")

    def _begin_writing(self) -> None:
        """Begin as the one writer, as soon as the others have ended. Raises as `execute`.

        SQLite's own way to wait is to sleep, longer each time, up to a tenth of a second; by then
        others have come and gone, while all who wait for an answer wait with it.
        """
        end = time.monotonic() + self._busy_seconds
        self._run("PRAGMA busy_timeout = 0")
        try:
            while not self._is_writer(patient=time.monotonic() < end):
                time.sleep(_ASK_SECONDS)
        finally:
            self._run(f"PRAGMA busy_timeout = {1000 * self._busy_seconds:.0f}")

    def _is_writer(self, *, patient: bool) -> bool:
        """Begin as the one writer; False: another one is at it. Raises as `execute`."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if patient and _is_busy(error):
                return False
            raise _translated(error) from error
        return True

    def commit(self) -> None:
        """End the transaction and keep what it has changed. Raises as `execute`."""
        self._run("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if one is open."""
        if self._db.in_transaction:
            if self.has_changed:
                self._recalled.forget_all()
            self._db.execute("ROLLBACK")

    def compact(self) -> None:
        """Write the whole file anew, without its free pages. Raises as `execute`."""
        self.execute("VACUUM")
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def commit_count(self) -> int:
        """Return a number that changes when another connection has committed."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def last_number(self, table: str, column: str) -> int:
        """Return a table's last number, as `Connection.last_number`."""
        given = self.execute("SELECT seq FROM sqlite_sequence WHERE name = :table", table=table)
        highest = self.execute(f"SELECT coalesce(max({column}), 0) FROM {table}")  # noqa: S608
        return max((row[0] for row in (*given, *highest)), default=0)

    def set_last_number(self, table: str, column: str, number: int) -> None:
        """Set a table's last number, as `Connection.set_last_number`."""
        place = {"table": table, "number": max(number, self.last_number(table, column))}
        self.execute("DELETE FROM sqlite_sequence WHERE name = :table", table=table)
        self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :number)", **place)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def is_used_by_others(path: Path) -> bool:
    """Whether another connection to the store's file is open, in any process."""
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            db.execute("BEGIN EXCLUSIVE")
            db.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


def _translated(error: sqlite3.OperationalError) -> Exception:
    """Return the refusal that SQLite's message means; other errors as they are."""
    text = str(error)
    if "full" in text:
        return storage_full()
    return store_is_busy() if _is_busy(error) else error


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return any(word in str(error) for word in ("locked", "busy"))
