"""Entering what happens into the journal's history, and telling whoever listens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.core.history import Event, EventKind
from pleb_agent.journal.journal import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.core.sentence import Sentence
    from pleb_agent.journal.journal import Journal
    from pleb_agent.loop.ports import Clock

__all__ = ["History"]

_LOG: Final = logging.getLogger("pleb.agent")


class History:
    """`on_event` hears of everything that enters the history while the loop runs."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self.on_event: Callable[[Event], None] = _nobody

    def note(self, kind: EventKind, sentence: Sentence, project: str = "") -> None:
        """Enter an event. A full disk costs its entry, and nothing else."""
        event = Event(self._clock(), kind, project, sentence)
        try:
            self.tell(self._journal.note_event(event))
        except JournalError as error:
            _LOG.warning("history", extra={"event": str(sentence), "problem": str(error)})
            self.tell([event])

    def tell(self, events: Sequence[Event]) -> None:
        """Tell of events that are in the journal already."""
        for event in events:
            self.on_event(event)


def _nobody(_: Event) -> None:
    """Nobody listens."""
