"""Moves commits from SQLite's write-ahead log into its file, in the background process.

By default the process whose commit makes the log too long does that work, and every request
that waits for that commit waits longer. Here the background process does it: first what needs
no lock, then, under a short lock, the few pages that were written meanwhile, so that the log
starts again from its beginning (https://sqlite.org/wal.html, section 2.3).
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

_RESTART_PAGES: Final = 1000
"""A log of fewer pages than this (4 MiB) is not worth the lock."""


def keep_log_short(
    path: Path, stop: threading.Event, *, every_seconds: float = 2.0, busy_seconds: float = 1.0
) -> None:
    """Move the log of the store at `path` into its file until `stop` is set."""
    with contextlib.closing(
        sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
    ) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        while not stop.wait(every_seconds):
            try:
                _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if pages >= _RESTART_PAGES:
                    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            except sqlite3.OperationalError:  # a reader needs the old pages: try again next time
                _log.warning("Could not move the store's log into its file now", exc_info=True)
