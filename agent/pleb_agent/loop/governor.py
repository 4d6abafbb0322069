"""Applies the policy's decision to the engine, whenever it may have changed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.core.history import EventKind
from pleb_agent.core.readiness import (
    Action,
    Decision,
    PolicyMemory,
    PolicyReason,
    WorkerLimits,
    decide,
)
from pleb_agent.core.sentence import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.readings import Readings
    from pleb_agent.loop.services import CurrentPreferences, Engine, Listener
    from pleb_agent.loop.status import History

__all__ = ["Governor"]

_LOG: Final = logging.getLogger("pleb.agent")
_LEAST_WAIT_SECONDS: Final = 0.05
_MOST_WAIT_SECONDS: Final = 60.0
"""The event loop's clock stops while the machine sleeps, and the wall clock may be set forward or
back: look at it at least this often, however far away the next change seems."""


class Governor:
    """Pauses, limits and resumes the engine. It sleeps until `look_again` or the next look."""

    def __init__(
        self,
        preferences: CurrentPreferences,
        read: Callable[[], Readings],
        history: History,
        listener: Listener,
    ) -> None:
        self.decision = Decision(
            Action.RUN, say("The agent is starting."), 0, PolicyReason.STARTING
        )
        """The last one."""
        self.next_look_at: float | None = None
        """When the decision can change by time alone, in seconds since 1970."""
        self._engine: Engine | None = None
        self._preferences = preferences
        self._read = read
        self._history = history
        self._listener = listener
        self._memory = PolicyMemory()
        self._running = asyncio.Event()
        self._changed = asyncio.Event()
        self._applied: Action | None = None
        """What the engine was last asked to do, and within which limits."""
        self._limited: WorkerLimits | None = None

    @property
    def may_run(self) -> bool:
        """Whether work is allowed now."""
        return self._running.is_set()

    def control(self, engine: Engine) -> None:
        """Control this engine from now on; it starts, or was just started, and is free to run."""
        self._engine = engine
        self._applied = self._limited = None
        self._limit(engine, self.decision.limits)
        self.look_again()

    async def until_allowed(self) -> None:
        """Return when work is allowed."""
        await self._running.wait()

    def look_again(self) -> None:
        """Something changed: decide again at once."""
        self._changed.set()

    async def run(self) -> None:
        """Decide and act, until cancelled."""
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
        """Decide, make the engine do what the decision says, and only then report it.

        Reporting writes to the disk; pausing for the user's input does not wait for that.
        """
        readings = self._read()
        decision, self._memory = decide(readings, self._preferences(), self._memory)
        self.next_look_at = readings.now + decision.look_again_seconds
        before, self.decision = self.decision, decision
        if decision.action is not Action.RUN:
            self._running.clear()
        if self._engine is not None:
            await self._control(self._engine, decision)
        if decision.action is Action.RUN:
            self._running.set()
        self._report(before, decision)

    async def _control(self, engine: Engine, decision: Decision) -> None:
        if decision.action is Action.RUN:
            self._limit(engine, decision.limits)
        if decision.action is self._applied:
            return
        self._applied = decision.action
        match decision.action:
            case Action.RUN:
                await engine.resume()
            case Action.PAUSE:
                await engine.pause()
            case Action.STOP:
                await engine.resume()  # a paused engine writes no checkpoint
                await engine.request_checkpoint_and_stop()
                await engine.pause()  # if no unit was running, hold back the next one

    def _limit(self, engine: Engine, limits: WorkerLimits) -> None:
        if limits != self._limited:
            self._limited = limits
            engine.limit(limits)

    def _report(self, before: Decision, decision: Decision) -> None:
        if (before.action, before.reason) != (decision.action, decision.reason):
            _LOG.info(
                decision.action.value,
                extra={"rule": decision.reason.value, "reason": str(decision.sentence)},
            )
            if decision.reason is not PolicyReason.STARTING:  # what follows it comes in a moment
                self._history.note(EventKind(decision.action.value), decision.sentence)
        if _visible(before) != _visible(decision):
            self._listener.changed()


def _visible(decision: Decision) -> tuple[object, ...]:
    """Return what people see of it; the time of the next look moves with each input."""
    return decision.action, decision.reason, decision.sentence, decision.limits
