"""The preferences as they are now: read once, written when the user changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.app.settings import read_preferences
from pleb_agent.core.preferences_file import write
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.app.home import Home
    from pleb_agent.core.preferences import Preferences

__all__ = ["LivePreferences"]


class LivePreferences:
    """Calls `on_change(before, after)` after each change. `adjust` is laid over what is read.

    `adjust`: what the command line wants for this process alone; it is never written.
    """

    def __init__(
        self, home: Home, adjust: Callable[[Preferences], Preferences] = lambda stored: stored
    ) -> None:
        self._home = home
        self._adjust = adjust
        self._stored = read_preferences(home)
        self.current = adjust(self._stored)
        self.on_change: Callable[[Preferences, Preferences], None] | None = None

    def change(self, change: Callable[[Preferences], Preferences]) -> Preferences:
        """Apply `change` to what is stored and return what holds now.

        Raises:
            InputError: the change is not allowed; nothing has happened.
        """
        stored = change(self._stored)
        write_durably(self._home.preferences, write(stored))
        before, self._stored, self.current = self.current, stored, self._adjust(stored)
        if self.on_change is not None:
            self.on_change(before, self.current)
        return self.current
