"""Moves what was committed from SQLite's write-ahead log into its file, beside everybody's work.

By default whoever commits when the log has grown does that work, and all who wait for that
commit wait longer. Here the background process does it: first what can be done without holding
anybody up, then, for a moment, the little that came meanwhile, so that the log starts anew
(https://sqlite.org/wal.html, section 2.3).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import threading
    from pathlib import Path

__all__ = ["keep_log_short"]

_log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 2.0
FEWEST_PAGES: Final = 1000
"""With fewer pages than this (4 MiB) the log need not start anew yet."""
_BUSY_SECONDS: Final = 1.0


def keep_log_short(path: Path, stop: threading.Event) -> None:
    """Look after the log of the store at `path` until `stop` is set."""
    with contextlib.closing(
        sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    ) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        while not stop.wait(EVERY_SECONDS):
            _move(connection)


def _move(connection: sqlite3.Connection) -> None:
    """Move the log's content; a reader that is in the way is waited for the next time."""
    try:
        _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages >= FEWEST_PAGES:
            connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    except sqlite3.OperationalError:
        _log.warning("The store's log could not be moved into its file now", exc_info=True)
