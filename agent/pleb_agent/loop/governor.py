"""Holds the engine to the user's wishes: applies the readiness decision whenever it may change."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readiness import Action, Decision, Reason, decide
from pleb_agent.core.sentence import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.readings import Readings
    from pleb_agent.loop.ports import CurrentPreferences, Engine

__all__ = ["Governor"]

_LOG: Final = logging.getLogger("pleb.agent")


class Governor:
    """Pauses and resumes the engine. `decision` is the last one."""

    def __init__(self, preferences: CurrentPreferences, read: Callable[[], Readings]) -> None:
        self._engine: Engine | None = None
        self._preferences = preferences
        self._read = read
        self._running = asyncio.Event()
        self._changed = asyncio.Event()
        self.decision = Decision(Action.RUN, say("The agent is starting."), 0, Reason.STARTING)

    @property
    def may_run(self) -> bool:
        """Whether work is allowed now."""
        return self._running.is_set()

    def control(self, engine: Engine) -> None:
        """From now on hold this engine, which was just started and is free to run."""
        self._engine = engine

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
            await self.apply(decide(self._read(), self._preferences()))
            try:
                async with asyncio.timeout(self.decision.look_again_seconds):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def apply(self, decision: Decision) -> None:
        """Make the engine do what the decision says."""
        before, self.decision = self.decision, decision
        if before.action is not decision.action:
            _LOG.info(decision.action.value, extra={"reason": str(decision.sentence)})
        elif decision.action is not Action.RUN or self.may_run:
            return
        if decision.action is Action.RUN:
            if self._engine is not None:
                await self._engine.resume()
            self._running.set()
            return
        self._running.clear()
        if self._engine is not None:
            await self._hold(self._engine, decision.action)

    async def _hold(self, engine: Engine, action: Action) -> None:
        if action is Action.PAUSE:
            await engine.pause()
        else:
            await engine.resume()  # a paused engine writes no checkpoint
            await engine.request_checkpoint_and_stop()
