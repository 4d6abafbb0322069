"""The store: transactions over tables.

    with store.write() as tx:              # everything below commits together, or not at all
        host = tx.hosts.find(project.id, fingerprint)
        tx.hosts.saw(host.id, Seen(...))

A method that says whether it changed something (`-> bool`) updates only WHERE the row is as
expected; False means that another process was first. Lookups that may find nothing return
None only where nothing is an answer; where a row must be there they raise a typed `Refusal`.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pleb_coordinator.store.admins import Admins
from pleb_coordinator.store.assignments import Assignments
from pleb_coordinator.store.audit import Audit
from pleb_coordinator.store.background import Claims, Tombstones
from pleb_coordinator.store.comparisons import Comparisons, TraitsCache
from pleb_coordinator.store.fleets import Fleets
from pleb_coordinator.store.hosts import Calibrations, Hosts, Invites
from pleb_coordinator.store.projects import MetadataCache, Projects, Rounds, Versions
from pleb_coordinator.store.queries.assignments import (
    DRAWN_FOR,
    IN_HAND,
    UNSENT_VERDICTS,
)
from pleb_coordinator.store.queries.hosts import FIND_HOST_OF
from pleb_coordinator.store.queries.projects import FIND_PROJECT
from pleb_coordinator.store.queries.units import TAKEN
from pleb_coordinator.store.references import References
from pleb_coordinator.store.removal import Removal
from pleb_coordinator.store.retention import Retention
from pleb_coordinator.store.rows import version_key
from pleb_coordinator.store.sqlite import SqliteConnection
from pleb_coordinator.store.sqlite import is_used_by_others as is_file_used
from pleb_coordinator.store.units import Shares, Units
from pleb_coordinator.store.uploads import Uploads
from pleb_coordinator.store.views import Events, Views
from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pleb_coordinator.store.engine import Connection

__all__ = ["Store", "Transaction", "connect", "is_used_by_others", "postgres_engine"]


class Transaction:
    """Everything between BEGIN and COMMIT: a group of methods for each family of tables."""

    def __init__(self, db: Connection, metadata: MetadataCache, traits: TraitsCache) -> None:
        self._db = db
        self.projects = Projects(db, metadata)
        self.versions = Versions(db)
        self.rounds = Rounds(db)
        self.units = Units(db)
        self.assignments = Assignments(db)
        self.shares = Shares(db)
        self.hosts = Hosts(db)
        self.calibrations = Calibrations(db)
        self.comparisons = Comparisons(db, traits)
        self.uploads = Uploads(db)
        self.claims = Claims(db)
        self.tombstones = Tombstones(db)
        self.invites = Invites(db)
        self.events = Events(db)
        self.admins = Admins(db)
        self.audit = Audit(db)
        self.views = Views(db)
        self.fleets = Fleets(db)
        self.retention = Retention(db)
        self.removal = Removal(db)
        self.references = References(db)

    @property
    def changes(self) -> int:
        """A number that grows when a statement may have changed a row."""
        return self._db.changes

    def expect_request(self, project: str, fingerprint: str) -> None:
        """Say that a host's request is about to be looked at."""
        self._db.expect(FIND_PROJECT, name=project)
        self._db.expect(FIND_HOST_OF, name=project, fingerprint=fingerprint)

    def expect_issue(self, name: str, host: int, holders: Sequence[str]) -> None:
        """Say that a host is about to get units of a project: what is looked up for each."""
        project = self.projects.find(name)
        place = version_key(project.id, project.epoch, project.version)
        self._db.expect(IN_HAND, host=host)
        self._db.expect(UNSENT_VERDICTS, host=host, limit=LIMITS.reports_per_request)
        self._db.expect(DRAWN_FOR, host=host)
        for holder in holders:
            self._db.expect(TAKEN, holder=holder, **place)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what happens inside, and only that, if it raises."""
        self._db.execute("SAVEPOINT part")
        try:
            yield
            self._db.settle()  # what fails, fails here
        except BaseException:
            self._db.execute("ROLLBACK TO part")
            raise
        finally:
            self._db.execute("RELEASE part")


class Store:
    """Opens transactions on two connections, so that reading never waits for a writer.

    One object serves one thread at a time. It waits `busy_seconds` for another process that
    writes. `place` is a SQLite file, or the address of a PostgreSQL database.

    Raises:
        InputError: there is no store at `place`, or it is of another version.
    """

    def __init__(self, place: Path | str, *, busy_seconds: float = 30.0) -> None:
        self._writer = connect(place, busy_seconds)
        self._reader = connect(place, busy_seconds)
        metadata: MetadataCache = {}
        traits: TraitsCache = {}
        self._write = Transaction(self._writer, metadata, traits)
        self._read = Transaction(self._reader, metadata, traits)
        self._commits = -1

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a transaction that sees one state of the store and changes nothing."""
        self._reader.begin(write=False)
        try:
            yield self._read
        finally:
            self._reader.rollback()

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """Open a transaction that commits at its end; on an exception it leaves no trace.

        One that is not `durable` may be lost in a power cut, if no durable one follows.

        Raises:
            Refusal: `storage_full`, or `internal` while another process blocks the store.
        """
        self._writer.begin(write=True, durable=durable)
        try:
            yield self._write
            self._writer.commit()
        finally:
            self._writer.rollback()  # does nothing after a commit

    def compact(self) -> None:
        """Give back the room of rows that were removed. Everybody else who writes waits.

        Raises:
            Refusal: as `write`; `storage_full`: there is no room for a second copy.
        """
        self._writer.compact()

    def changed(self) -> bool:
        """Whether any process has committed since this was asked last."""
        before, self._commits = self._commits, self._reader.commit_count()
        return self._commits != before

    def commits_of_others(self) -> int:
        """Return a number that changes when another `Store` has committed, in any process."""
        return self._writer.commit_count()

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._reader.close()


def is_used_by_others(place: Path | str) -> bool:
    """Whether another process uses the store now. Raises `InputError`."""
    if isinstance(place, Path):
        return is_file_used(place)
    return bool(postgres_engine().is_used_by_others(place))


def connect(place: Path | str, busy_seconds: float) -> Connection:
    """Return a connection to a store. Raises `InputError`."""
    if isinstance(place, Path):
        return SqliteConnection(place, busy_seconds)
    connection: Connection = postgres_engine().PostgresConnection(place, busy_seconds)
    return connection


def postgres_engine() -> Any:
    """Return the module `store.postgres`, whose driver is an extra.

    Raises:
        InputError: the driver is not installed.
    """
    try:
        return import_module("pleb_coordinator.store.postgres")
    except ImportError as error:
        message = f"PostgreSQL needs a driver ({error}): pip install 'pleb-cluster[postgres]'."
        raise InputError(message) from error
