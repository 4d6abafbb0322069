"""Applies the policy's decisions, whenever they may have changed: to the engine, to the network."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import Activity, AssignmentState
from pleb_agent.core.devices import CPU
from pleb_agent.core.history import EventKind
from pleb_agent.core.network_rules import NetworkDecision, network
from pleb_agent.core.readiness import (
    OF_ONE,
    Action,
    Decision,
    PolicyMemory,
    PolicyReason,
    WorkerLimits,
    decide,
)
from pleb_agent.core.sentence import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pleb_agent.core.readings import Readings
    from pleb_agent.loop.services import CurrentPreferences, Engine, Listener
    from pleb_agent.loop.status import History, LoopState

__all__ = ["Governor", "NetworkGate"]

_LOG: Final = logging.getLogger("pleb.agent")
_LEAST_WAIT_SECONDS: Final = 0.05
_LEAST_NETWORK_WAIT_SECONDS: Final = 1.0
_MOST_WAIT_SECONDS: Final = 60.0
"""The event loop's clock stops while the machine sleeps, and the wall clock may be set forward or
back: look at it at least this often, however far away the next change seems."""
_SOON_SECONDS: Final = 600.0
"""A lease that ends within this time is warned of, if it is not known when the network returns."""


class Governor:
    """Pauses, limits and resumes the engine. It sleeps until `look_again` or the next look."""

    def __init__(
        self,
        preferences: CurrentPreferences,
        read: Callable[[], Readings],
        history: History,
        listener: Listener,
        device: str = CPU,
    ) -> None:
        self._device = device
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
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _look(self) -> None:
        """Decide, make the engine do what the decision says, and only then report it.

        Reporting writes to the disk; pausing for the user's input does not wait for that.
        """
        readings = self._read()
        decision, self._memory = decide(
            readings, self._preferences(), self._memory, device=self._device
        )
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
            # What follows a start comes in a moment; what holds for all devices is told once.
            told = self._device == CPU or not {before.reason, decision.reason}.isdisjoint(OF_ONE)
            # That a device is off is news when the user has switched it, not at every start.
            is_old = before.reason is PolicyReason.STARTING and (
                decision.reason is PolicyReason.DEVICE_OFF
            )
            if told and not is_old and decision.reason is not PolicyReason.STARTING:
                self._history.note(EventKind(decision.action.value), decision.sentence)
        if _visible(before) != _visible(decision):
            self._listener.changed()


class NetworkGate:
    """Whether the network may be used now. `decision` is the last one."""

    def __init__(self, loop: LoopState) -> None:
        self._loop = loop
        self._services = loop.services
        self._changed = asyncio.Event()
        self._warned: set[int] = set()
        """Assignments whose end of lease was warned of."""
        self.decision = NetworkDecision(
            allowed=True,
            sentence=say("The agent is starting."),
            download_bytes_per_second=None,
            upload_bytes_per_second=None,
            look_again_seconds=0.0,
        )

    def look(self) -> NetworkDecision:
        """Decide again."""
        self.decision = network(self._services.read(), self._services.preferences())
        return self.decision

    def look_again(self) -> None:
        """Something changed: decide again at once."""
        self._changed.set()

    async def watch(
        self, on_closed: Callable[[], Awaitable[None]], on_opened: Callable[[], None]
    ) -> None:
        """Call these at each change, until cancelled."""
        was_allowed = True
        while True:
            self._changed.clear()
            decision = self.look()
            if was_allowed and not decision.allowed:
                await on_closed()
            elif decision.allowed and not was_allowed:
                on_opened()
            was_allowed = decision.allowed
            wait = max(decision.look_again_seconds, _LEAST_NETWORK_WAIT_SECONDS)
            wait = min(wait, _MOST_WAIT_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def show_closed(self) -> float:
        """Show why nothing is exchanged; return the seconds until the next look.

        A unit that will be late because of that is warned of, once and one at a time.
        """
        decision, now = self.decision, self._services.clock()
        horizon = now + max(decision.look_again_seconds, _SOON_SECONDS)
        for row in self._services.journal.open_assignments(device=self._services.device):
            reported = row.state is AssignmentState.REPORTED or row.is_failure
            if reported or row.id in self._warned or not now < row.lease_ends_at < horizon:
                continue
            self._warned.add(row.id)
            sentence = say(
                "Unit {unit} must be sent within {minutes} min, or it is late: {why}",
                unit=row.assignment,
                minutes=max(1, round((row.lease_ends_at - now) / 60)),
                why=decision.sentence,
            )
            self._loop.history.note(EventKind.PROBLEM, sentence)
            break
        self._loop.status.set(Activity.IDLE, decision.sentence, now + decision.look_again_seconds)
        return max(_LEAST_NETWORK_WAIT_SECONDS, decision.look_again_seconds)


def _visible(decision: Decision) -> tuple[object, ...]:
    """Return what people see of it; the time of the next look moves with each input."""
    return decision.action, decision.reason, decision.sentence, decision.limits
