"""A migrated, empty SQLite store; the migrations run once for each process of tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from pleb_coordinator.store.migrate import migrate


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        migrate(path)
        return path.read_bytes()


def fresh_store(path: Path) -> Path:
    """Write an empty store to `path` and return it."""
    path.write_bytes(_migrated())
    return path
