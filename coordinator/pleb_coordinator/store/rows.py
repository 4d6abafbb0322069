"""Rows of the database as typed records, and back: the only place where values are converted.

A database knows neither enums nor, in SQLite, booleans, and keeps a list or a struct as JSON.
A record's field types say what each column is; its field names are the column names.
"""

from __future__ import annotations

from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from pleb_coordinator.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pleb_coordinator.store.engine import Connection, Cursor

__all__ = ["Rows", "TableGroup", "version_key", "without_none"]

R = TypeVar("R", bound=Record)
_AS_STORED = (int, float, str, bytes)


class Rows(Generic[R]):
    """Converts between rows and records of one type; columns are in the order of its fields."""

    def __init__(self, record: type[R]) -> None:
        self._record = record
        self._decoders: list[tuple[int, Callable[[Any], Any]]] = []
        self._json: list[str] = []
        for index, field in enumerate(msgspec.structs.fields(record)):
            kind = without_none(field.type)
            if kind in _AS_STORED:
                continue
            self._decoders.append((index, _decoder(kind)))
            if _is_json(kind):
                self._json.append(field.name)

    def record(self, row: Sequence[Any]) -> R:
        """Return the record of a row."""
        if not self._decoders:
            return self._record(*row)
        values = list(row)
        for index, decode in self._decoders:
            if (stored := values[index]) is not None:
                values[index] = decode(stored)
        return self._record(*values)

    def first(self, cursor: Cursor) -> R | None:
        """Return the next record, or None."""
        row = cursor.fetchone()
        return None if row is None else self.record(row)

    def all(self, rows: Iterable[Sequence[Any]]) -> list[R]:
        """Return the records of all rows."""
        record = self.record
        return [record(row) for row in rows]

    def parameters(self, record: R) -> dict[str, Any]:
        """Return the record's values by column, as the database keeps them."""
        values = msgspec.structs.asdict(record)
        for name in self._json:
            if values[name] is not None:
                values[name] = msgspec.json.encode(values[name])
        return values


class TableGroup:
    """Base of a transaction's groups of methods."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def _exists(self, sql: str, **parameters: object) -> bool:
        """Whether the query finds a row."""
        return self._db.execute(sql, **parameters).fetchone() is not None

    def _value(self, sql: str, **parameters: object) -> Any:
        """Return the first column of the query's row; None: there is no row."""
        row = self._db.execute(sql, **parameters).fetchone()
        return None if row is None else row[0]

    def _changed(self, sql: str, **parameters: object) -> bool:
        """Whether the statement changed exactly one row."""
        return self._db.execute(sql, **parameters).rowcount == 1


def version_key(project: int, epoch: int, version: int) -> dict[str, int]:
    """Return the parameters of queries about a version or its round."""
    return {"project": project, "epoch": epoch, "version": version}


def without_none(kind: Any) -> Any:
    """Return the type of `X | None` without None, any other type as it is."""
    if type(None) in get_args(kind) and get_origin(kind) in {Union, UnionType}:
        (kind,) = (part for part in get_args(kind) if part is not type(None))
    return kind


def _is_json(kind: Any) -> bool:
    return not (isinstance(kind, type) and (kind is bool or issubclass(kind, Enum)))


def _decoder(kind: Any) -> Callable[[Any], Any]:
    """Return what makes a value of that type from a stored one that is not None."""
    if _is_json(kind):
        return msgspec.json.Decoder(kind).decode
    if kind is bool:
        return bool
    return {member.value: member for member in kind}.__getitem__  # faster than calling the enum
