"""Parts of queries that several modules share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.records import Round

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_coordinator.core.records import Record

__all__ = ["EVER", "OF_VERSION", "ROUND", "columns", "insert"]


def columns(record: type[Record], prefix: str = "", without: Collection[str] = ()) -> str:
    """Return the columns of a record in the order of its fields, each after `prefix`."""
    fields = msgspec.structs.fields(record)
    return ", ".join(prefix + field.name for field in fields if field.name not in without)


def insert(table: str, record: type[Record]) -> str:
    """Return the INSERT of a whole record."""
    return f"INSERT INTO {table} ({columns(record)}) VALUES ({columns(record, ':')})"


OF_VERSION: Final = "project = :project AND epoch = :epoch AND version = :version"
ROUND: Final = columns(Round)
# What hosts have done that are here, or were.
EVER: Final = """(
    SELECT account, display_name, team, 1 AS hosts, units_valid, refused, bans, credit
    FROM hosts WHERE project = :project
    UNION ALL
    SELECT account, display_name, team, 0, units_valid, refused, bans, credit
    FROM departed WHERE project = :project
)"""
