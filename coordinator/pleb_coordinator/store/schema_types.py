"""Column types and partial indices, for SQLite and PostgreSQL alike.

A flag is a number on both, so that one SQL text (`flag = 1`) serves both. Text is compared byte by
byte, whatever language the database was made for.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Integer, SmallInteger, String, Text, text

__all__ = ["FLAG", "INTEGER", "TEXT", "where"]

INTEGER: Final = Integer().with_variant(BigInteger(), "postgresql")
FLAG: Final = Boolean().with_variant(SmallInteger(), "postgresql")
TEXT: Final = String().with_variant(Text(collation="C"), "postgresql")


def where(condition: str) -> dict[str, Any]:
    """Return what makes an index hold only the rows that fulfil `condition`."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
