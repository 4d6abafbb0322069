"""What all parts of the loop share: its visible state, its history, how many units it wants."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import Activity, AgentState
from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.sentence import Sentence, say
from pleb_agent.journal.journal import JournalError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Sequence

    from pleb_agent.journal.journal import Journal
    from pleb_agent.loop.services import Clock, Listener, Services

__all__ = ["CurrentUnit", "History", "LiveStatus", "LoopState", "UnitBudget"]

_LOG: Final = logging.getLogger("pleb.agent")
_MOST_LOSSES: Final = 128
"""Enough for a curve on the page; halved when they are more."""


@dataclass(frozen=True)
class CurrentUnit:
    """The unit that is being computed. `loss` is that of the last step."""

    project: str
    assignment: int
    kind: str
    version: int
    steps_done: int = 0
    steps_total: int = 0
    loss: float | None = None
    compute_seconds: float = 0.0
    device: str = ""
    """On which it is computed: `cpu`, `cuda-0`."""
    capability: str = ""
    """What the device can do, such as AVX512."""
    id: int = 0
    """Its row in the journal."""
    losses: tuple[tuple[int, float], ...] = ()
    """Steps and their losses so far; `LiveStatus` collects them."""


class LiveStatus:
    """Changed by the loop, read by everybody else; the listener is called at each change."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._state = AgentState(Activity.IDLE, say("The agent is starting."))
        self._unit: CurrentUnit | None = None
        self.units_finished = 0
        """Since the start of this process."""

    @property
    def state(self) -> AgentState:
        """The agent's state."""
        return self._state

    @property
    def unit(self) -> CurrentUnit | None:
        """The unit that is being computed."""
        return self._unit

    @unit.setter
    def unit(self, unit: CurrentUnit | None) -> None:
        self._unit = unit if unit is None else _with_losses(unit, self._unit)
        self._listener.changed()

    def set(
        self,
        activity: Activity,
        sentence: str | Sentence,
        next_look_at: float | None = None,
        project: str = "",
    ) -> None:
        """Change the agent's state, unless a unit is being computed: that matters more.

        Network work continues in the background, and would hide it.

        Args:
            activity: what the agent does.
            sentence: why; with a `project`, without its name, which comes before it.
            next_look_at: seconds since 1970; None: on the next event.
            project: the one that this is about; empty: none.
        """
        if self._unit is not None:
            return
        why = say(sentence)
        whole = say("{project}: {reason}", project=project, reason=why) if project else why
        self._state = AgentState(activity, whole, next_look_at, project, why)
        self._listener.changed()


class History:
    """Enters what happens into the journal's history, and reports it to the listener."""

    def __init__(self, journal: Journal, clock: Clock, listener: Listener) -> None:
        self._journal = journal
        self._clock = clock
        self._listener = listener

    def note(self, kind: EventKind, sentence: Sentence, project: str = "") -> None:
        """Enter an event. If the disk is full only the entry is lost."""
        event = Event(self._clock(), kind, project, sentence)
        try:
            self.report(self._journal.note_event(event))
        except JournalError as error:
            _LOG.warning("history", extra={"event": str(sentence), "problem": str(error)})
            self.report([event])

    def report(self, events: Sequence[Event]) -> None:
        """Report events that are in the journal already."""
        for event in events:
            self._listener.happened(event)


class UnitBudget:
    """How many units this process still wants. `most`: from `--units`; None: no limit.

    The loops of several devices share one.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.finishing = False
        """Take no new units; end when nothing is open."""
        self._statuses: list[LiveStatus] = []
        self._asked = 0

    def count(self, status: LiveStatus) -> None:
        """Count the units of one more loop."""
        self._statuses.append(status)

    @property
    def finished(self) -> int:
        """How many units are finished, of all devices."""
        return sum(status.units_finished for status in self._statuses)

    def wants_more(self, under_way: int) -> bool:
        """Whether to ask for another unit, besides `under_way` and those that are asked for."""
        if self.finishing:
            return False
        return self.most is None or self.finished + under_way + self._asked < self.most

    @contextmanager
    def asking(self, units: int) -> Iterator[None]:
        """Count the units that a request asks for while its answer is waited for."""
        self._asked += units
        try:
            yield
        finally:
            self._asked -= units

    @property
    def is_reached(self) -> bool:
        """Whether that many units are finished."""
        return self.most is not None and self.finished >= self.most


@dataclass(frozen=True)
class LoopState:
    """What the projects, the engine and the network gate of one loop share."""

    services: Services
    status: LiveStatus
    history: History
    budget: UnitBudget
    network_ended: asyncio.Event
    """Set when a project's network task or an upload has ended."""


def _with_losses(unit: CurrentUnit, before: CurrentUnit | None) -> CurrentUnit:
    """Return the unit with the losses so far; of too many every second one is dropped."""
    losses = before.losses if before and before.assignment == unit.assignment else ()
    if unit.loss is not None and (not losses or losses[-1][0] != unit.steps_done):
        losses = (*losses, (unit.steps_done, unit.loss))
    return replace(unit, losses=losses if len(losses) <= _MOST_LOSSES else losses[1::2])
