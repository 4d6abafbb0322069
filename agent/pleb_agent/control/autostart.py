"""Starting the agent with the user's session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.control.views import AutostartView
from pleb_agent.desktop.entries import session_entries
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Autostart"]


class Autostart:
    """The agent's entries in the session, for one home."""

    def __init__(self, home: Path, environment: Mapping[str, str], *, headless: bool) -> None:
        self._entries = session_entries(home, environment, headless=headless)
        # An earlier start may have made the entries of the other kind, with a desktop or without.
        self._others = session_entries(home, environment, headless=not headless)

    def view(self) -> AutostartView:
        """Return whether the agent starts with the session, and how."""
        on, sentence = self._entries.state()
        others_on, others_sentence = self._others.state()
        if others_on and not on:
            on, sentence = others_on, others_sentence
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
                f"The session's settings cannot be changed ({error}): check the permissions of "
                "your configuration folder."
            ) from error
        return self.view()
