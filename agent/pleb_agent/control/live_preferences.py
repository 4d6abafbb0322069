"""The preferences as they are now: read once, written when the user changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.core.preferences import Preferences, default_preferences
from pleb_agent.core.preferences_file import read, write
from pleb_agent.sensors.machine import read_machine
from pleb_agent.worker.job import WorkerSettings
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LivePreferences", "read_preferences", "worker_settings"]


class LivePreferences:
    """Calls `on_change(before, after)` after each change.

    `adjust`: what the command line changes for this process alone; it is never written.
    """

    def __init__(
        self, path: Path, adjust: Callable[[Preferences], Preferences] = lambda stored: stored
    ) -> None:
        self._path = path
        self._adjust = adjust
        self._stored = read_preferences(path)
        self.current = adjust(self._stored)
        self.on_change: Callable[[Preferences, Preferences], None] | None = None

    def change(self, change: Callable[[Preferences], Preferences]) -> Preferences:
        """Apply `change` to what is stored; return the preferences that now apply.

        Raises:
            InputError: the change is not allowed; nothing has changed.
        """
        stored = change(self._stored)
        write_durably(self._path, write(stored))
        before, self._stored, self.current = self.current, stored, self._adjust(stored)
        if self.on_change is not None:
            self.on_change(before, self.current)
        return self.current


def read_preferences(path: Path) -> Preferences:
    """Return the preferences in a file; the defaults for this machine if there is none.

    Raises:
        InputError: the file cannot be read as preferences.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return default_preferences(read_machine().cores)
    return read(data)


def worker_settings(preferences: Preferences) -> WorkerSettings:
    """Return what a worker is started with: its cores, and its memory while the PC is idle."""
    return WorkerSettings(
        threads=preferences.threads,
        memory_bytes=preferences.memory_bytes_idle or read_machine().memory_bytes // 2,
        low_priority=preferences.nice,
    )
