"""The store's engines, each with an empty store of its own; a new engine is added here."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_coordinator.store.migrate import migrate
from pleb_coordinator.store.transaction import Store
from tests.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@functools.cache
def _migrated() -> bytes:
    """Return an empty store's file; the migrations run once for each process of tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        migrate(path)
        return path.read_bytes()


def fresh_store(path: Path) -> Path:
    """Write an empty SQLite store to `path` and return it."""
    path.write_bytes(_migrated())
    return path


def _sqlite(folder: Path) -> Callable[[], Store]:
    path = fresh_store(folder / "store.sqlite")
    return lambda: Store(path)


def _postgres(_: Path) -> Callable[[], Store]:
    url = shared_postgres().emptied_database()
    return lambda: Store(url)


ENGINES: Final[Mapping[str, Callable[[Path], Callable[[], Store]]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
}
"""By name: what makes an empty store in a folder and returns what opens it."""
