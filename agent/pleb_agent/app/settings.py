"""Reading the user's preferences from the home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.core.preferences import Preferences, default_preferences, read
from pleb_agent.sensors.machine import read_machine

if TYPE_CHECKING:
    from pleb_agent.app.home import Home

__all__ = ["read_preferences"]


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
