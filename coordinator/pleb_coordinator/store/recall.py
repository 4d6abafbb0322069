"""What queries of a connection have found, for as long as it cannot have changed.

**The rule**: rows are remembered until anybody else commits, until a statement of this connection
may change a table that the query reads, or until something of this connection is undone. So a
project's row and its newest version are read once for hundreds of requests. The engine says when
that is; a statement whose tables are not plain to see changes all.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Recalled", "changes_nothing", "is_query", "table_written", "tables_read"]

_MOST: Final = 1000
_CHANGES: Final = re.compile(r"\s*(?:INSERT INTO|UPDATE)\s+(\w+)")
_TABLES: Final = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")

Key = tuple[object, ...]


class Recalled:
    """Rows by query and parameters."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, list[Any]]] = {}

    def find(self, sql: str, parameters: Mapping[str, object]) -> list[Any] | None:
        """Return the rows that a query has found; None: it has to be run."""
        known = self._rows.get(sql)
        return None if known is None else known.get(tuple(parameters.values()))

    def keep(self, sql: str, parameters: Mapping[str, object], rows: list[Any]) -> list[Any]:
        """Remember the rows of a query, and return them."""
        known = self._rows.setdefault(sql, {})
        if len(known) >= _MOST:
            known.clear()
        known[tuple(parameters.values())] = rows
        return rows

    def forget(self, statement: str) -> None:
        """Forget what may be different after a statement."""
        if self._rows and not changes_nothing(statement):
            changed = table_written(statement)
            for sql in [sql for sql in self._rows if not changed or changed in tables_read(sql)]:
                del self._rows[sql]

    def forget_all(self) -> None:
        """Forget everything."""
        self._rows.clear()


@functools.cache
def is_query(sql: str) -> bool:
    """Whether a statement only reads."""
    return sql.lstrip().startswith("SELECT")


@functools.cache
def changes_nothing(sql: str) -> bool:
    """Whether all rows are the same after a statement."""
    return is_query(sql) or sql.startswith(("SAVEPOINT", "RELEASE"))


@functools.cache
def table_written(sql: str) -> str:
    """Return the table that a statement changes; empty: more than one, or who knows."""
    found = _CHANGES.match(sql)
    return found[1] if found is not None else ""


@functools.cache
def tables_read(sql: str) -> frozenset[str]:
    """Return the tables that a query reads."""
    return frozenset(_TABLES.findall(sql))
