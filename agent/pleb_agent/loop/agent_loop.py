"""The agent's main loop: each attached project in turn, one unit at a time, until told to stop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.client.errors import NetworkError
from pleb_agent.core.agent_state import Activity, AgentState
from pleb_agent.core.backoff import BACKOFF
from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.readiness import Action
from pleb_agent.core.sentence import say
from pleb_agent.loop.attach import enrol_again
from pleb_agent.loop.budget import UnitBudget
from pleb_agent.loop.compute import PutAwayError
from pleb_agent.loop.governor import Governor
from pleb_agent.loop.session import Session
from pleb_agent.loop.status import LiveStatus
from pleb_agent.loop.turn import Turns
from pleb_agent.worker.errors import WorkerError
from pleb_shared.errors import InputError, PlebError, Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pleb_agent.core.readiness import Decision
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.parts import Parts
    from pleb_shared.protocol.messages import Runtime

__all__ = ["AgentLoop"]

_LOG: Final = logging.getLogger("pleb.agent")
_PUT_AWAY_SECONDS: Final = 20.0
_FORGOTTEN: Final = frozenset({RefusalCode.UNKNOWN_HOST, RefusalCode.STALE_SEQUENCE})


class AgentLoop:
    """Owns the sessions and the order of work. `units`: stop after so many; None: never."""

    def __init__(self, parts: Parts, *, units: int | None = None) -> None:
        self.status = LiveStatus()
        self.governor = Governor(parts.preferences, parts.read)
        self.governor.on_decision = self._decided
        self._parts = parts
        self._budget = UnitBudget(units)
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._turns = Turns(parts, self.status, self._budget, self._wake.set, self._told)
        self.on_event: Callable[[Event], None] = _nobody
        """Hears of everything that enters the history while the loop runs."""
        self._sessions: dict[int, Session] = {}
        self._unopened: dict[int, str] = {}
        """Projects that cannot be opened, for instance without their key, and why."""
        self._runtime: Runtime | None = None
        self._engine_failures = 0

    # -- history ----------------------------------------------------------------------------

    def note(self, kind: EventKind, sentence: Sentence, project: str = "") -> None:
        """Enter an event into the history, and tell whoever listens."""
        event = Event(self._parts.clock(), kind, project, sentence)
        self._told(self._parts.journal.note_event(event))

    def _decided(self, decision: Decision) -> None:
        self.note(EventKind(decision.action.value), decision.sentence)

    def _told(self, events: Sequence[Event]) -> None:
        for event in events:
            self.on_event(event)

    # -- told from outside ------------------------------------------------------------------

    def stop(self, *, finish: bool = False) -> None:
        """End the loop: now, keeping a checkpoint, or after what is in hand was reported."""
        self._budget.finishing = True
        if not finish or not self._turns.in_hand():
            self._stopped.set()
        self._wake.set()

    def changed(self) -> None:
        """Projects or wishes changed: look at them now."""
        self.governor.look_again()
        for session in self._sessions.values():
            session.next_look_at = 0.0
        self._wake.set()

    def renew_engine(self) -> None:
        """Start the engine anew before the next unit: what it was started with has changed."""
        self._runtime = None
        self._wake.set()

    async def leave(self, project: int) -> None:
        """Leave a project that is marked as to be left, as soon as the current request ends.

        A unit of it that is being computed is put away first.
        """
        unit = self.status.unit
        session = self._sessions.get(project)
        if unit is not None and session is not None and unit.project == session.name:
            await self._parts.engine.request_checkpoint_and_stop()
        self.changed()

    def state(self) -> AgentState:
        """Return what the agent does and why; a pause shows at once, whatever still ends."""
        decision = self.governor.decision
        if decision.action is Action.RUN:
            return self.status.state
        look_at = self._parts.clock() + decision.look_again_seconds
        return AgentState(Activity.PAUSED, decision.sentence, look_at)

    def problems(self) -> dict[int, str]:
        """Return what is wrong with each project, empty for those that work."""
        open_ones = {number: session.problem for number, session in self._sessions.items()}
        return open_ones | self._unopened

    # -- the loop ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until stopped, or until the wished number of units is finished."""
        self._turns.clean()
        governing = asyncio.create_task(self.governor.run())
        working = asyncio.create_task(self._work_on_and_on())
        stopped = asyncio.create_task(self._stopped.wait())
        tasks = {governing, working, stopped}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() and self.status.unit is not None:
                await self._put_away(working)
            for task in (working, governing):
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
        return self._budget.finishing and not self._turns.in_hand()

    async def _step(self) -> None:
        """Do one thing: wait for leave, for something to do, or take one project's turn."""
        self._wake.clear()
        if not self.governor.may_run:
            decision = self.governor.decision
            self.status.set(Activity.PAUSED, decision.sentence)
            await _first(self.governor.until_allowed(), self._wake.wait())
            return
        await self._follow_projects()
        if not self._sessions:
            self._show_nothing_to_do()
            await self._wake.wait()
            return
        runtime = await self._warm_engine()
        if runtime is None:
            return
        now = asyncio.get_running_loop().time()
        session = min(self._sessions.values(), key=lambda one: one.next_look_at)
        if session.next_look_at > now:
            await self._sleep(session.next_look_at - now)
        else:
            await self._guarded_turn(session, runtime)

    def _show_nothing_to_do(self) -> None:
        if self._unopened:
            self.status.set(Activity.PROBLEM, " ".join(self._unopened.values()))
        else:
            self.status.set(Activity.IDLE, "No project is attached: `pleb-agent attach LINK`.")

    async def _warm_engine(self) -> Runtime | None:
        """Return the warm engine's runtime, or None after a wait if it doesn't start."""
        if self._runtime is None:
            self.status.set(Activity.IDLE, "The worker is getting ready.")
            try:
                self._runtime = await self._parts.engine.start()
            except WorkerError as error:
                self._engine_failures += 1
                if self._engine_failures == 1:
                    self.note(EventKind.PROBLEM, say("{text}", text=str(error)))
                delay = BACKOFF.delay_seconds(self._engine_failures, self._parts.draw())
                self.status.set(Activity.PROBLEM, str(error), self._parts.clock() + delay)
                _LOG.error("worker", extra={"problem": str(error)})
                await self._sleep(delay)
                return None
            self._engine_failures = 0
            self.governor.control(self._parts.engine)
            self.governor.look_again()
        return self._runtime

    async def _guarded_turn(self, session: Session, runtime: Runtime) -> None:
        """Take a turn; whatever goes wrong is a sentence and a time to try again."""
        session.next_look_at = asyncio.get_running_loop().time()
        try:
            self.status.set(Activity.WORKING, f"Working for {session.name}.")
            await self._turns.take(session, runtime, alone=len(self._sessions) == 1)
        except PutAwayError:
            return
        except WorkerError as error:
            self._runtime = None
            self._note_failure(session, error, Activity.PROBLEM)
        except NetworkError as error:
            self._note_failure(session, error, Activity.OFFLINE, error.retry_after_seconds)
        except Refusal as refusal:
            if refusal.code in _FORGOTTEN and not session.failures:
                await self._enrol_again(session)
            else:
                asked = refusal.retry_after_seconds
                self._note_failure(session, refusal, Activity.PROBLEM, asked)
        except PlebError as error:
            self._note_failure(session, error, Activity.PROBLEM)

    def _note_failure(
        self,
        session: Session,
        error: PlebError,
        activity: Activity,
        retry_after_seconds: float | None = None,
    ) -> None:
        now = asyncio.get_running_loop().time()
        if session.problem != str(error):  # the first of its kind, not every retry
            self.note(EventKind.PROBLEM, say("{text}", text=str(error)), session.name)
        delay = session.failed(str(error), now, self._parts.draw(), retry_after_seconds)
        self.status.set(activity, f"{session.name}: {error}", self._parts.clock() + delay)
        _LOG.warning(
            "problem", extra={"project": session.name, "problem": str(error), "delay": delay}
        )

    async def _enrol_again(self, session: Session) -> None:
        """The coordinator has forgotten us, or our count: tell it who we are."""
        session.failures += 1
        row = self._parts.journal.project(session.project)
        account = self._parts.keys.load(row.account_key_file)
        try:
            reply = await enrol_again(
                session.client, session.trust, session.host_key, account, self._parts.clock
            )
        except PlebError as error:
            self._note_failure(session, error, Activity.PROBLEM)
        else:
            self._parts.journal.raise_sequence(session.project, reply.sequence, reply.role.value)

    # -- projects ---------------------------------------------------------------------------

    async def _follow_projects(self) -> None:
        """Open sessions for projects that were attached, leave those that are to be left."""
        rows = {row.id: row for row in self._parts.journal.projects()}
        self._unopened.clear()
        for number, row in rows.items():
            if row.detaching:
                await self._leave(row)
            elif number not in self._sessions:
                self._try_to_open(row)
        for number in set(self._sessions) - set(rows):
            await self._sessions.pop(number).client.close()

    def _try_to_open(self, row: ProjectRow) -> None:
        try:
            self._open_session(row)
        except InputError as error:
            self._unopened[row.id] = str(error)

    def _open_session(self, row: ProjectRow) -> None:
        key = self._parts.keys.load(row.host_key_file)
        client = self._parts.make_client(row.attach_link)
        self._sessions[row.id] = Session.open(row, key, client)

    async def _leave(self, row: ProjectRow) -> None:
        """Give units back if the coordinator can be reached, then forget the project."""
        if row.id not in self._sessions:
            self._try_to_open(row)
        session = self._sessions.pop(row.id, None)
        if session is not None:
            if self._runtime is not None:
                with suppress(PlebError):
                    await self._turns.leave(session, self._runtime)
            await session.client.close()
        self._parts.journal.remove_project(row.id)
        self.note(EventKind.DETACH, say("Left {project}.", project=row.name), row.name)
        self._parts.keys.forget(row.host_key_file, row.account_key_file)
        self._turns.clean()
        if not self._parts.journal.projects():
            self._parts.cache.clear()

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
        self._turns.keep_results()
        for session in self._sessions.values():
            await session.client.close()
        await self._parts.engine.close()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()


def _nobody(_: Event) -> None:
    """Nobody listens."""


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of them does; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
