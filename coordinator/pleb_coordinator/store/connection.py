"""The port between the store and a database engine: one connection, SQL with named parameters.

`store.sqlite` implements it. The SQL itself is in `store.queries`, for all engines; an engine
whose dialect needs another text for a query replaces that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Connection", "Cursor"]


class Cursor(Protocol):
    """The result of a statement, as in the Python database API (PEP 249)."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows that are left."""


class Connection(Protocol):
    """One connection to a database. Statements run only between `begin` and its end."""

    def execute(self, sql: str, /, **parameters: object) -> Cursor:
        """Run a statement of `store.queries`.

        Raises:
            Refusal: `storage_full`, or `internal` while another process blocks the database.
        """

    def execute_each(self, sql: str, parameters: Iterable[Mapping[str, object]]) -> None:
        """Run a statement once for each set of parameters. Raises as `execute`."""

    def begin(self, *, write: bool) -> None:
        """Begin a transaction; only one at a time can write. Raises as `execute`."""

    def commit(self) -> None:
        """Make the transaction durable. Raises as `execute`."""

    def rollback(self) -> None:
        """Undo the transaction, if one is open."""

    def commit_count(self) -> int:
        """Return a number that changes with every commit of any process."""

    def close(self) -> None:
        """Close the connection."""
