"""Changes of states, written down by the database itself, whoever makes them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from pleb_coordinator.core.assignment_state import ASSIGNMENT_MOVES
from pleb_coordinator.core.unit_state import UNIT_MOVES

if TYPE_CHECKING:
    from pathlib import Path

_RECORD = """
CREATE TABLE {table}_moves (before TEXT, after TEXT);
CREATE TRIGGER {table}_moved AFTER UPDATE OF state ON {table} WHEN old.state <> new.state
BEGIN INSERT INTO {table}_moves VALUES (old.state, new.state); END;
"""
_ALLOWED = {
    "units": {(before.value, after.value) for (before, _), after in UNIT_MOVES.items()},
    "assignments": {(before.value, after.value) for (before, _), after in ASSIGNMENT_MOVES.items()},
}


def record_moves(path: Path) -> None:
    """Let the store at `path` record every change of a unit's or assignment's state."""
    with closing(sqlite3.connect(path)) as db:
        for table in _ALLOWED:
            db.executescript(_RECORD.format(table=table))


def illegal_moves(path: Path) -> set[tuple[str, str]]:
    """Return recorded changes (before, after) that are not in the state tables."""
    with closing(sqlite3.connect(path)) as db:
        return {
            move
            for table, allowed in _ALLOWED.items()
            for move in db.execute(f"SELECT DISTINCT before, after FROM {table}_moves")
            if move not in allowed
        }
