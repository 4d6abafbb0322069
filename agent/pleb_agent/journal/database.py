"""The journal's file: opening, migrating, transactions that are on the disk when they return."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pleb_agent.journal.schema import MIGRATIONS
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Database", "JournalError"]


class JournalError(PlebError):
    """The journal cannot be read or written: disk full, damaged, or of a newer agent."""


class Database:
    """One SQLite file in WAL mode with synchronous=FULL."""

    def __init__(self, path: Path) -> None:
        with _journal_errors():
            self.db = sqlite3.connect(path, isolation_level=None, timeout=10)
            self.db.row_factory = sqlite3.Row
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self.db.execute(f"PRAGMA {pragma}")
            self._migrate()

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def _migrate(self) -> None:
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise JournalError("The journal was written by a newer agent; update this one.")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self.db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the block's changes together, or none of them.

        Raises:
            JournalError: they cannot be written.
        """
        with _journal_errors():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            finally:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """Return what a query gives."""
        with _journal_errors():
            return self.db.execute(sql, values).fetchall()


@contextmanager
def _journal_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(
            f"The journal cannot be used ({error}): free some disk room, or move journal.sqlite "
            "away and attach again if it is damaged."
        ) from error
