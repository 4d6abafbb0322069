"""Copies all rows of a store into an empty one, of the same or of another engine.

One moment of the source, one transaction of the target, table after table in the order of their
references. Both are digested, row for row, and have to be equal. Numbers go on where the source's
ended: caches and hosts know them, so no later row may get one that was there before.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Boolean, Float, Integer, LargeBinary, String

from pleb_coordinator.store.schema import metadata
from pleb_coordinator.store.transaction import connect
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Table

    from pleb_coordinator.store.engine import Connection

__all__ = ["CopiedTable", "copy_rows"]

_PAGE: Final = 500
"""Rows at a time; a row may have 64 KB."""
_BUSY_SECONDS: Final = 30.0


@dataclass(frozen=True)
class CopiedTable:
    """What a table has, in both stores."""

    name: str
    rows: int
    digest: str
    """SHA-256 of all its rows, in the order of their keys."""


def copy_rows(source: Path | str, target: Path | str) -> list[CopiedTable]:
    """Copy the rows of the store at `source` into the one at `target`, which has none.

    Raises:
        InputError: one of them is no store, the target has rows, or what it has now differs.
        Refusal: one of them is full, busy or away; the target has nothing then.
    """
    with (
        closing(connect(source, _BUSY_SECONDS)) as opened,
        closing(connect(target, _BUSY_SECONDS)) as copy,
    ):
        opened.begin(write=False)
        copy.begin(write=True)
        try:
            return _copy(opened, copy)
        finally:
            copy.rollback()  # does nothing after a commit
            opened.rollback()


def _copy(source: Connection, target: Connection) -> list[CopiedTable]:
    tables = metadata.sorted_tables
    for table in tables:
        if target.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone():  # noqa: S608
            message = f"The store to move to has rows already ({table.name}): give an empty one."
            raise InputError(message)
    copied = []
    for table in tables:
        hasher, count = hashlib.sha256(), 0
        for page in _pages(source, table):
            _digest(hasher, page)
            count += len(page)
            target.execute_each(_insert(table), (_parameters(table, row) for row in page))
        copied.append(CopiedTable(table.name, count, hasher.hexdigest()))
        numbered = table.autoincrement_column
        if numbered is not None:
            number = source.last_number(table.name, numbered.name)
            target.set_last_number(table.name, numbered.name, number)
    for table, before in zip(tables, copied, strict=True):
        hasher = hashlib.sha256()
        for page in _pages(target, table):
            _digest(hasher, page)
        if hasher.hexdigest() != before.digest:
            message = f"The rows of {table.name} differ after they were copied: nothing was kept."
            raise InputError(message)
    target.commit()
    return copied


def _pages(connection: Connection, table: Table) -> Iterator[list[Sequence[Any]]]:
    """Yield all rows of a table, by their keys."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    places = [names.index(key) for key in keys]
    head = f"SELECT {', '.join(names)} FROM {table.name}"  # noqa: S608 - our own names
    tail = f" ORDER BY {', '.join(keys)} LIMIT {_PAGE}"
    after = f" WHERE ({', '.join(keys)}) > ({', '.join(f':{key}' for key in keys)})"
    kinds = [_KINDS[type(column.type)] for column in table.columns]
    page = connection.execute(head + tail).fetchall()
    while page:
        yield [_typed(kinds, row) for row in page]
        if len(page) < _PAGE:
            return
        last = {key: page[-1][place] for key, place in zip(keys, places, strict=True)}
        page = connection.execute(head + after + tail, **last).fetchall()


def _typed(kinds: list[Callable[[Any], Any]], row: Sequence[Any]) -> list[Any]:
    """Return a row's values in the types of its columns: SQLite keeps what it was given."""
    return [None if value is None else kind(value) for kind, value in zip(kinds, row, strict=True)]


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


_KINDS: Final[Mapping[type, Callable[[Any], Any]]] = {
    Integer: int,
    Boolean: int,
    Float: float,
    String: str,
    LargeBinary: _bytes,
}


def _insert(table: Table) -> str:
    names = [column.name for column in table.columns]
    values = ", ".join(f":{name}" for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values})"  # noqa: S608


def _parameters(table: Table, row: Sequence[Any]) -> dict[str, Any]:
    return {column.name: value for column, value in zip(table.columns, row, strict=True)}


def _digest(hasher: Any, rows: list[Sequence[Any]]) -> None:
    for row in rows:
        hasher.update(msgspec.msgpack.encode(row))
