"""What an engine of the store is: one class with the methods of `Connection`.

`sqlite` and `postgres` have one each. The SQL that they run is in `store.queries`; what differs is
how a transaction begins, how other processes' commits are noticed, and which error means "busy",
"full" or "away".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_coordinator.core.records import (
    Assignment,
    Host,
    Invite,
    Round,
    UnitRow,
    VersionRow,
)
from pleb_shared.errors import InputError, Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "PROBES",
    "SCHEMA_REVISION",
    "Connection",
    "Cursor",
    "StoreAwayError",
    "StoreUnavailableError",
    "check_revision",
    "is_of_the_store",
    "storage_full",
    "store_is_away",
    "store_is_busy",
]

SCHEMA_REVISION: Final = "0001"
"""The migration that this code needs."""
PROBES: Final = tuple(
    f"SELECT {', '.join(record.__struct_fields__)} FROM {table} LIMIT 0"  # noqa: S608 - our own names
    for table, record in (
        ("hosts", Host),
        ("units", UnitRow),
        ("assignments", Assignment),
        ("versions", VersionRow),
        ("rounds", Round),
        ("invites", Invite),
    )
)
"""Statements that need the columns of this program. Until the first release, migration 0001 is
written anew with the schema: a store of a development version has its number, but other columns."""


class StoreAwayError(InputError):
    """No database answers at the store's address, or none yet."""


class Cursor(Protocol):
    """What a statement has found or changed."""

    @property
    def rowcount(self) -> int:
        """How many rows an INSERT, UPDATE or DELETE has changed."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """One connection. Statements run only between `begin` and its end; one thread at a time."""

    def execute(self, sql: str, /, **parameters: object) -> Cursor:
        """Run a statement of `store.queries`, at the latest when its result is looked at.

        Raises:
            Refusal: `storage_full`, or `internal` while the database is busy or away; here, where
                its result or that of a later statement is looked at, or in `settle`.
        """

    def recall(self, sql: str, /, **parameters: object) -> list[Any]:
        """Return a query's rows, remembered for as long as they cannot have changed.

        See `store.recall`. For what many requests need and few change. Raises as `execute`.
        """

    @property
    def changes(self) -> int:
        """A number that grows when a statement of this connection may have changed a row."""

    @property
    def has_changed(self) -> bool:
        """Whether this transaction may have changed a row."""

    def expect(self, sql: str, /, **parameters: object) -> None:
        """Say that this query is likely to be run soon, so that it need not be waited for then.

        It sees what it would see then: where its tables change before, it is run again.
        """

    def settle(self) -> None:
        """Wait until all statements have run. Raises as `execute`."""

    def execute_each(self, sql: str, parameters: Iterable[Mapping[str, object]]) -> None:
        """Run a statement once for each set of parameters. Raises as `execute`."""

    def begin(self, *, write: bool, durable: bool = True) -> None:
        """Begin a transaction; only one at a time can write. Raises as `execute`.

        Its commit survives a power cut only if it is `durable`, and then it waits for the disk.
        """

    def commit(self) -> None:
        """End the transaction and keep what it has changed. Raises as `execute`."""

    def rollback(self) -> None:
        """Undo the transaction, if one is open."""

    def compact(self) -> None:
        """Give back the room of rows that were removed. Raises as `execute`."""

    def commit_count(self) -> int:
        """Return a number that changes when another connection has committed."""

    def last_number(self, table: str, column: str) -> int:
        """Return the highest number that a table has ever given to a row; 0: none."""

    def set_last_number(self, table: str, column: str, number: int) -> None:
        """Let a table give higher numbers than that from now on."""

    def close(self) -> None:
        """Close the connection."""


def check_revision(place: str, found: str | None) -> None:
    """Check that a store has the schema that this program needs; `place` says where it is.

    Raises:
        InputError: it has not.
    """
    if found is not None and found > SCHEMA_REVISION:
        message = (
            f"{place} has schema {found}, made by a newer release (this one knows "
            f"{SCHEMA_REVISION}): update this program, or restore a backup from before the update."
        )
        raise InputError(message)
    if found != SCHEMA_REVISION:
        message = (
            f"{place} has schema {found or 'none'}, this program needs {SCHEMA_REVISION}: "
            "run `pleb-coordinator migrate`."
        )
        raise InputError(message)


def storage_full() -> Refusal:
    """Return the refusal while nothing can be written."""
    message = "The coordinator's disk is full: try again later."
    return Refusal(RefusalCode.STORAGE_FULL, message, retry_after_seconds=300)


class StoreUnavailableError(Refusal):
    """The store is busy or away for now: what needs it is refused, and nothing is at fault."""

    def __init__(self, message: str) -> None:
        super().__init__(RefusalCode.INTERNAL, message, retry_after_seconds=5)


def is_of_the_store(error: Exception) -> bool:
    """Whether the store itself has failed, not what was asked of it: to ask again is no use now."""
    full = isinstance(error, Refusal) and error.code is RefusalCode.STORAGE_FULL
    return full or isinstance(error, StoreUnavailableError)


def store_is_busy() -> StoreUnavailableError:
    """Return the refusal while another process keeps the store."""
    return StoreUnavailableError("The coordinator's store is busy: try again.")


def store_is_away() -> StoreUnavailableError:
    """Return the refusal while the database does not answer."""
    return StoreUnavailableError("The coordinator's database is away: try again.")
