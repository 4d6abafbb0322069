"""Holds the engine to the user's wishes: applies the policy's decision whenever it may change."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readiness import Action, Decision, Limits, PolicyMemory, Reason, decide
from pleb_agent.core.sentence import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.readings import Readings
    from pleb_agent.loop.ports import CurrentPreferences, Engine

__all__ = ["Governor"]

_LOG: Final = logging.getLogger("pleb.agent")
_LEAST_WAIT_SECONDS: Final = 0.05
_MOST_WAIT_SECONDS: Final = 60.0
"""The event loop's clock stands still while the machine sleeps, and the one on the wall is set
forward and back: look at it at least so often, however far the next change seems."""


class Governor:
    """Pauses, limits and resumes the engine. It sleeps until `look_again` or the next look."""

    def __init__(self, preferences: CurrentPreferences, read: Callable[[], Readings]) -> None:
        self.decision = Decision(Action.RUN, say("The agent is starting."), 0, Reason.STARTING)
        """The last one."""
        self.next_look_at: float | None = None
        """When the decision can change by time alone, in seconds since 1970."""
        self.on_change: Callable[[], None] = _nothing
        """Called when anything of the decision is new that people see."""
        self.on_decision: Callable[[Decision], None] = _nothing
        """Called when its action or reason is new: for the history."""
        self._engine: Engine | None = None
        self._preferences = preferences
        self._read = read
        self._memory = PolicyMemory()
        self._running = asyncio.Event()
        self._changed = asyncio.Event()
        self._told: Action | None = None
        """What the engine was last told to do, and how much it may take."""
        self._limited: Limits | None = None

    @property
    def may_run(self) -> bool:
        """Whether work is allowed now."""
        return self._running.is_set()

    def control(self, engine: Engine) -> None:
        """From now on hold this engine, which starts or was just started and is free to run."""
        self._engine = engine
        self._told = self._limited = None
        self._limit(engine, self.decision.limits)
        self.look_again()

    async def until_allowed(self) -> None:
        """Return when work is allowed."""
        await self._running.wait()

    def look_again(self) -> None:
        """Something changed: decide anew at once."""
        self._changed.set()

    async def run(self) -> None:
        """Decide and act, for ever."""
        while True:
            self._changed.clear()
            await self._look()
            wait = min(
                max(self.decision.look_again_seconds, _LEAST_WAIT_SECONDS), _MOST_WAIT_SECONDS
            )
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        readings = self._read()
        decision, self._memory = decide(readings, self._preferences(), self._memory)
        self.next_look_at = readings.now + decision.look_again_seconds
        await self.apply(decision)

    async def apply(self, decision: Decision) -> None:
        """Make the engine do what the decision says, and only then tell the others.

        Whoever hears of it may write it to the disk; the user's input doesn't wait for that.
        """
        before, self.decision = self.decision, decision
        if decision.action is not Action.RUN:
            self._running.clear()
        if self._engine is not None:
            await self._hold(self._engine, decision)
        if decision.action is Action.RUN:
            self._running.set()
        self._tell(before, decision)

    async def _hold(self, engine: Engine, decision: Decision) -> None:
        if decision.action is Action.RUN:
            self._limit(engine, decision.limits)
        if decision.action is self._told:
            return
        self._told = decision.action
        match decision.action:
            case Action.RUN:
                await engine.resume()
            case Action.PAUSE:
                await engine.pause()
            case Action.STOP:
                await engine.resume()  # a paused engine writes no checkpoint
                await engine.request_checkpoint_and_stop()
                await engine.pause()  # where no unit was in hand, hold the next one

    def _limit(self, engine: Engine, limits: Limits) -> None:
        if limits != self._limited:
            self._limited = limits
            engine.limit(limits)

    def _tell(self, before: Decision, decision: Decision) -> None:
        if (before.action, before.reason) != (decision.action, decision.reason):
            _LOG.info(
                decision.action.value,
                extra={"rule": decision.reason.value, "reason": str(decision.sentence)},
            )
            self.on_decision(decision)
        if _seen(before) != _seen(decision):
            self.on_change()


def _seen(decision: Decision) -> tuple[object, ...]:
    """Return what people see of it; the time of the next look moves with each input."""
    return decision.action, decision.reason, decision.sentence, decision.limits


def _nothing(*_: object) -> None:
    """Nobody listens."""
