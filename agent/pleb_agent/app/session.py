"""Starting with the user's session, seen from the faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.desktop.entries import session_entries
from pleb_agent.web.views import AutostartView
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.app.home import Home

__all__ = ["SessionStart"]


class SessionStart:
    """The agent's entries in the session, for one home."""

    def __init__(self, home: Home, environment: Mapping[str, str], *, headless: bool) -> None:
        self._entries = session_entries(home.path, environment, headless=headless)
        self._others = session_entries(home.path, environment, headless=not headless)
        """With a desktop where ours are without, and the other way round."""

    def view(self) -> AutostartView:
        """Return how it is."""
        on, sentence = self._entries.state()
        also, other = self._others.state()
        if also and not on:
            on, sentence = also, other
        return AutostartView(on=on, supported=True, sentence=sentence)

    def turn(self, *, on: bool) -> AutostartView:
        """Make the entries, or remove them, also those of the other kind.

        Raises:
            InputError: the session's folders cannot be written.
        """
        try:
            if on:
                self._entries.make()
            else:
                self._entries.remove()
                self._others.remove()
        except OSError as error:
            raise InputError(
                f"The session's settings cannot be changed ({error}); look at the rights of your "
                "configuration folder."
            ) from error
        return self.view()
