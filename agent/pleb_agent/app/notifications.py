"""Desktop notifications: one at a time, and only for events that the user asked for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.sentence import say
from pleb_agent.desktop.notify import notifier
from pleb_agent.translation.words import choose_language, words_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.preferences import Notifications, Preferences
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.desktop.notify import Notifier
    from pleb_agent.updates.releases import Release

__all__ = ["UserNotifier", "is_wanted"]

_LOG: Final = logging.getLogger("pleb.agent")
_MOST_WAITING: Final = 5
_TITLE: Final = "Pleb-Cluster"
_SWITCHES: Final[dict[EventKind, Callable[[Notifications], bool]]] = {
    EventKind.FIRST_ACCEPTED: lambda wanted: wanted.first_accepted,
    EventKind.PROBLEM: lambda wanted: wanted.problem,
    EventKind.UPDATE: lambda wanted: wanted.update,
}


def is_wanted(kind: EventKind, wanted: Notifications) -> bool:
    """Whether the user wants a notification of an event of this kind."""
    return kind in _SWITCHES and _SWITCHES[kind](wanted)


class UserNotifier:
    """`consider` never waits; `run` shows notifications, in a thread.

    `session_language` is called in that thread, if the user has chosen no language.
    """

    def __init__(
        self,
        preferences: Callable[[], Preferences],
        session_language: Callable[[], str],
        desktop: Notifier | None = None,
    ) -> None:
        self._preferences = preferences
        self._session_language = session_language
        self._desktop = desktop or notifier()
        self._waiting: asyncio.Queue[Sentence] = asyncio.Queue(_MOST_WAITING)

    def consider(self, event: Event) -> None:
        """Show an event, if the user wants that."""
        self._enqueue(event.kind, event.sentence)

    def release(self, release: Release) -> None:
        """Show that there is a newer release, if the user wants that."""
        self._enqueue(EventKind.UPDATE, say(release.sentence))

    async def run(self) -> None:
        """Show notifications until cancelled."""
        while True:
            sentence = await self._waiting.get()
            try:
                await asyncio.to_thread(self._show, sentence)
            except OSError as error:
                _LOG.info("notification", extra={"problem": str(error)})

    def _enqueue(self, kind: EventKind, sentence: Sentence) -> None:
        if is_wanted(kind, self._preferences().notifications) and not self._waiting.full():
            self._waiting.put_nowait(sentence)

    def _show(self, sentence: Sentence) -> None:
        chosen = self._preferences().language or self._session_language()
        words = words_for(choose_language(chosen, ""))
        self._desktop.show(_TITLE, words.sentence(sentence, fallback=str(sentence)))
