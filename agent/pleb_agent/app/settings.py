"""Reading the user's preferences from the home, and what they mean for the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.core.preferences import Preferences, default_preferences
from pleb_agent.core.preferences_file import read
from pleb_agent.sensors.machine import read_machine
from pleb_agent.worker.job import WorkerSettings

if TYPE_CHECKING:
    from pleb_agent.app.home import Home

__all__ = ["read_preferences", "worker_settings"]


def read_preferences(home: Home) -> Preferences:
    """Return the preferences, or the defaults for this machine.

    Raises:
        InputError: the file is not understood.
    """
    try:
        data = home.preferences.read_bytes()
    except FileNotFoundError:
        return default_preferences(read_machine().cores)
    return read(data)


def worker_settings(preferences: Preferences) -> WorkerSettings:
    """Return what a worker is started with: its cores, and its memory while nobody is there."""
    return WorkerSettings(
        threads=preferences.threads,
        memory_bytes=preferences.memory_bytes_idle or read_machine().memory_bytes // 2,
        low_priority=preferences.nice,
    )
