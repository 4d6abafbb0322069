"""The agent's main loop: each attached project in turn, one unit at a time, until told to stop."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.core.agent_state import Activity, AgentState
from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.readiness import Action, Reason
from pleb_agent.core.sentence import say
from pleb_agent.loop.budget import UnitBudget
from pleb_agent.loop.errands import Errands, cancel_errands
from pleb_agent.loop.fair_turns import FairTurns
from pleb_agent.loop.governor import Governor
from pleb_agent.loop.history import History
from pleb_agent.loop.network_gate import NetworkGate
from pleb_agent.loop.offline import Offline
from pleb_agent.loop.sessions import Sessions
from pleb_agent.loop.status import LiveStatus
from pleb_agent.loop.troubles import Troubles
from pleb_agent.loop.turn import Turns
from pleb_agent.loop.warm_engine import WarmEngine
from pleb_agent.worker.errors import WorkerError
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pleb_agent.core.network_rules import NetworkDecision
    from pleb_agent.core.readiness import Decision
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.parts import Parts
    from pleb_agent.loop.session import Session
    from pleb_agent.loop.unit_work import Fetched
    from pleb_shared.protocol.messages import Runtime

__all__ = ["AgentLoop"]

_LOG: Final = logging.getLogger("pleb.agent")
_PUT_AWAY_SECONDS: Final = 20.0
_GIVE_BACK_SECONDS: Final = 15.0


class AgentLoop:
    """Owns the sessions and the order of work. `units`: stop after so many; None: never."""

    def __init__(self, parts: Parts, *, units: int | None = None) -> None:
        self.status = LiveStatus()
        self.governor = Governor(parts.preferences, parts.read)
        self.governor.on_decision = self._decided
        self._parts = parts
        self._budget = UnitBudget(units)
        self._wake = asyncio.Event()
        """Somebody outside wants something: look at everything."""
        self._ended = asyncio.Event()
        """Network work that went on by itself has ended."""
        self._stopped = asyncio.Event()
        self._history = History(parts.journal, parts.clock)
        self._fair = FairTurns(parts.journal, parts.preferences)
        self._network = NetworkGate(parts.read, parts.preferences)
        self._turns = Turns(
            parts, self.status, self._budget, self._ended.set, self._history.tell, self._fair.charge
        )
        self._sessions = Sessions(parts, self._give_back, self._left)
        self._errands = Errands(self._wake, self._ended, self._sessions.next_look_at)
        self._engine = WarmEngine(parts, self.status, self._history, self._engine_started)
        self._troubles = Troubles(
            parts, self.status, self._history, self._errands, self._engine.forget
        )
        self._offline = Offline(
            parts, self._network, self._sessions, self._turns, self._fair, self._history
        )

    @property
    def on_event(self) -> Callable[[Event], None]:
        """Hears of everything that enters the history while the loop runs."""
        return self._history.on_event

    @on_event.setter
    def on_event(self, listener: Callable[[Event], None]) -> None:
        self._history.on_event = listener

    def note(self, kind: EventKind, sentence: Sentence, project: str = "") -> None:
        """Enter an event into the history."""
        self._history.note(kind, sentence, project)

    # -- told from outside ------------------------------------------------------------------

    def stop(self, *, finish: bool = False) -> None:
        """End the loop: now, keeping a checkpoint, or after what is in hand was reported."""
        self._budget.finishing = True
        if not finish or not self._turns.in_hand:
            self._stopped.set()
        self._wake.set()

    def look_again(self) -> None:
        """Readings changed: decide anew what may be done, and what may be exchanged."""
        self.governor.look_again()
        self._network.look_again()

    def changed(self) -> None:
        """Projects or wishes changed: look at them now."""
        self.look_again()
        for session in self._sessions.live.values():
            session.next_look_at = 0.0
        self._wake.set()

    def renew_engine(self) -> None:
        """Start the engine anew before the next unit: what it was started with has changed."""
        self._engine.forget()
        self._wake.set()

    async def leave(self, project: int) -> None:
        """Leave a project that is marked as to be left, as soon as the current request ends.

        A unit of it that is being computed is put away first.
        """
        unit = self.status.unit
        session = self._sessions.live.get(project)
        if unit is not None and session is not None and unit.project == session.name:
            await self._parts.engine.request_checkpoint_and_stop()
        self.changed()

    def state(self) -> AgentState:
        """Return what the agent does and why; a pause shows at once, whatever still ends."""
        decision = self.governor.decision
        if decision.action is Action.RUN:
            return self.status.state
        return AgentState(Activity.PAUSED, decision.sentence, self.governor.next_look_at)

    def network(self) -> NetworkDecision:
        """Return whether the network may be used now, and why not."""
        return self._network.look()

    def problems(self) -> dict[int, str]:
        """Return what is wrong with each project, empty for those that work."""
        return self._sessions.problems()

    # -- the loop ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until stopped, or until the wished number of units is finished."""
        self._turns.clean()
        governing = asyncio.create_task(self.governor.run())
        working = asyncio.create_task(self._work_on_and_on())
        stopped = asyncio.create_task(self._stopped.wait())
        watching = asyncio.create_task(self._network.watch(self._break_off, self._wake.set))
        tasks = {governing, working, stopped, watching}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() and self.status.unit is not None:
                await self._put_away(working)
            for task in (working, governing, watching):
                if task.done():
                    task.result()  # a defect ends the process with its traceback
        finally:
            await self._close(tasks)

    async def _work_on_and_on(self) -> None:
        while not self._is_over():
            await self._step()

    def _is_over(self) -> bool:
        if self._stopped.is_set() or self._budget.is_reached:
            return True
        return self._budget.finishing and not self._turns.in_hand

    async def _step(self) -> None:
        """Do one thing: wait for leave, for something to do, or take one project's turn."""
        self._wake.clear()
        self._ended.clear()
        for session in list(self._sessions.live.values()):
            if session.errand is not None and session.errand.done():
                await self._troubles.guard(session, self._errands.look_back(session))
        if not self.governor.may_run:
            decision = self.governor.decision
            self.status.set(Activity.PAUSED, decision.sentence)
            await _first(self.governor.until_allowed(), self._wake.wait())
            return
        await self._sessions.follow()
        if not self._sessions.live:
            self._show_nothing_to_do()
            await self._sleep(await self._engine.rest())
            return
        if self._network.look().allowed:
            await self._step_with_network()
        else:
            await self._step_without_network()

    async def _step_with_network(self) -> None:
        runtime = await self._warm()
        if runtime is None:
            return
        received = self._turns.in_hand.received()
        rest = math.inf if received else await self._engine.rest()
        now = asyncio.get_running_loop().time()
        due = self._sessions.due(now)
        if not due:
            look_at = self._sessions.next_look_at()
            await self._sleep(rest if look_at is None else min(rest, look_at - now))
            return
        # A unit in hand was promised its turn when it was asked for; its lease runs.
        session = self._fair.choose([one for one in due if one.project in received] or due)
        session.next_look_at = now
        await self._troubles.guard(session, self._turn(session, runtime))

    async def _step_without_network(self) -> None:
        """Compute what is in hand; results wait until the network may be used."""
        found = self._offline.next_unit()
        if found is not None:
            runtime = await self._warm()
            if runtime is not None:
                session, fetched = found
                await self._troubles.guard(session, self._compute(session, runtime, fetched))
                self._turns.in_hand.keep()
        elif self._budget.finishing:
            self._stopped.set()  # what is in the journal is reported after the next start
        else:
            rest = await self._engine.rest()
            await self._sleep(min(rest, self._offline.show(self.status)))

    async def _turn(self, session: Session, runtime: Runtime) -> None:
        """One project's turn: prepare a unit, compute it, report it and ask for the next."""
        alone = len(self._sessions.live) == 1
        self.status.set(Activity.WORKING, say("Working for {project}.", project=session.name))
        fetched = await self._errands.run(
            session, lambda: self._turns.prepare(session, runtime, alone=alone)
        )
        if fetched is None or not self.governor.may_run:
            return
        await self._compute(session, runtime, fetched)
        if not self._network.look().allowed:
            self._turns.in_hand.keep()
            return
        asks = self._goes_on(session)(0.0)
        await self._errands.run(
            session, lambda: self._turns.report(session, runtime, alone=alone, asks=asks)
        )

    async def _compute(self, session: Session, runtime: Runtime, fetched: Fetched) -> None:
        self._fair.begin(session)
        began_at = asyncio.get_running_loop().time()
        try:
            await self._turns.compute(session, runtime, fetched, self._goes_on(session))
        finally:
            self._engine.used()
            self._fair.end(session)
        self._errands.learn(asyncio.get_running_loop().time() - began_at)

    def _goes_on(self, session: Session) -> Callable[[float], bool]:
        def goes_on(more_seconds: float) -> bool:
            due = self._sessions.due(asyncio.get_running_loop().time())
            others = [one for one in due if one is not session]
            return self._network.look().allowed and self._fair.is_next(
                session, others, more_seconds
            )

        return goes_on

    async def _break_off(self) -> None:
        """The network may not be used any more: nothing that is under way goes on."""
        await cancel_errands(self._sessions.live.values())
        await self._turns.uploads.cancel()
        self._turns.in_hand.keep()
        self._wake.set()

    def _decided(self, decision: Decision) -> None:
        if decision.reason is not Reason.STARTING:  # what comes of it is told in a moment
            self.note(EventKind(decision.action.value), decision.sentence)

    def _show_nothing_to_do(self) -> None:
        if self._sessions.unopened:
            self.status.set(Activity.PROBLEM, " ".join(self._sessions.unopened.values()))
        else:
            self.status.set(Activity.IDLE, "No project is attached: `pleb-agent attach LINK`.")

    async def _warm(self) -> Runtime | None:
        """Return the warm engine's runtime; None after a wait if there is none."""
        self.governor.control(self._parts.engine)  # input holds up the start too
        wait = await self._engine.start()
        if wait:
            await self._sleep(wait)
        return self._engine.runtime

    def _engine_started(self) -> None:
        self.governor.control(self._parts.engine)
        self.governor.look_again()

    async def _give_back(self, session: Session) -> None:
        """Give a session's units back, as far as its coordinator can be reached in time."""
        runtime = self._engine.runtime
        if runtime is not None and self._network.look().allowed:
            with suppress(PlebError, TimeoutError):
                async with asyncio.timeout(_GIVE_BACK_SECONDS):
                    await self._turns.leave(session, runtime)

    def _left(self, row: ProjectRow) -> None:
        self.note(EventKind.DETACH, say("Left {project}.", project=row.name), row.name)
        self._fair.forget(row.id)
        self._turns.clean()

    # -- ending -----------------------------------------------------------------------------

    async def _put_away(self, working: asyncio.Task[None]) -> None:
        """Let the engine write a checkpoint before the process ends."""
        with suppress(WorkerError):
            await self._parts.engine.resume()
            await self._parts.engine.request_checkpoint_and_stop()
            await asyncio.wait({working}, timeout=_PUT_AWAY_SECONDS)

    async def _close(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._turns.uploads.cancel()
        await self._sessions.close()
        self._turns.in_hand.keep()
        await self._parts.engine.close()

    async def _sleep(self, seconds: float) -> None:
        """Sleep so long, unless there is something to look at before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await _first(self._wake.wait(), self._ended.wait())


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of them does; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
