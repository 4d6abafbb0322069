"""What the agent does at this moment, for `status`, the tray and the page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import Activity, AgentState
from pleb_agent.core.sentence import Sentence, say

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CurrentUnit", "LiveStatus"]

_MOST_LOSSES: Final = 128


@dataclass(frozen=True)
class CurrentUnit:
    """The unit in hand. `loss` is that of the last step; `LiveStatus` keeps `losses`."""

    project: str
    assignment: int
    kind: str
    version: int
    steps_done: int = 0
    steps_total: int = 0
    loss: float | None = None
    compute_seconds: float = 0.0
    losses: tuple[tuple[int, float], ...] = ()
    """Steps and their losses so far."""


class LiveStatus:
    """Changed by the loop, read by everybody else; each change calls `on_change`."""

    def __init__(self) -> None:
        self._state = AgentState(Activity.IDLE, say("The agent is starting."))
        self._unit: CurrentUnit | None = None
        self.units_finished = 0
        """Since the start of this process."""
        self.on_change: Callable[[], None] = _nothing

    @property
    def state(self) -> AgentState:
        """The agent's state."""
        return self._state

    @property
    def unit(self) -> CurrentUnit | None:
        """The unit in hand."""
        return self._unit

    @unit.setter
    def unit(self, unit: CurrentUnit | None) -> None:
        self._unit = unit if unit is None else _with_losses(unit, self._unit)
        self.on_change()

    def set(
        self, activity: Activity, sentence: str | Sentence, next_look_at: float | None = None
    ) -> None:
        """Change the agent's state."""
        self._state = AgentState(activity, say(sentence), next_look_at)
        self.on_change()


def _with_losses(unit: CurrentUnit, before: CurrentUnit | None) -> CurrentUnit:
    """Return the unit with the losses so far; of too many every second is forgotten."""
    losses = before.losses if before and before.assignment == unit.assignment else ()
    if unit.loss is not None and (not losses or losses[-1][0] != unit.steps_done):
        losses = (*losses, (unit.steps_done, unit.loss))
    return replace(unit, losses=losses if len(losses) <= _MOST_LOSSES else losses[1::2])


def _nothing() -> None:
    """Nobody listens."""
