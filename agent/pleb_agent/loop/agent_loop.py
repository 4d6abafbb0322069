"""A device's loop: each attached project in turn, one unit at a time, until stopped."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pleb_agent.core.agent_state import Activity, AgentState
from pleb_agent.core.readiness import HELD_BACK, Action
from pleb_agent.core.sentence import say
from pleb_agent.core.unit_parts import Held
from pleb_agent.loop.engine import UnitStopped, WarmEngine
from pleb_agent.loop.files import clean_work_dir
from pleb_agent.loop.governor import Governor, NetworkGate
from pleb_agent.loop.projects import Projects
from pleb_agent.loop.services import Listener
from pleb_agent.loop.status import History, LiveStatus, LoopState, UnitBudget
from pleb_agent.worker.errors import WorkerError
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from pleb_agent.core.history import EventKind
    from pleb_agent.core.network_rules import NetworkDecision
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.files import FetchedUnit
    from pleb_agent.loop.project import Project
    from pleb_agent.loop.services import Services
    from pleb_shared.protocol.messages import Runtime

__all__ = ["AgentLoop"]

T = TypeVar("T")

_CHECKPOINT_SECONDS: Final = 20.0
"""How long a stopping agent waits for the engine's checkpoint."""
_NETWORK_WAIT_SHARE: Final = 0.02
_LEAST_NETWORK_WAIT_SECONDS: Final = 0.2
_MOST_NETWORK_WAIT_SECONDS: Final = 10.0


class AgentLoop:
    """Owns the projects and the order of work on one device.

    `units`: stop after this many; None: never. `budget`: instead, that of several loops.
    """

    def __init__(
        self,
        services: Services,
        listener: Listener | None = None,
        *,
        units: int | None = None,
        budget: UnitBudget | None = None,
    ) -> None:
        listener = listener or Listener()
        history = History(services.journal, services.clock, listener)
        self.status = LiveStatus(listener)
        self.device = services.device
        self.governor = Governor(
            services.preferences, services.read, history, listener, services.device
        )
        self._services = services
        self._history = history
        self._budget = budget or UnitBudget(units)
        self._budget.count(self.status)
        self._wake = asyncio.Event()
        """Something outside has changed: look at everything."""
        self._network_ended = asyncio.Event()
        self._stopped = asyncio.Event()
        shared = LoopState(services, self.status, history, self._budget, self._network_ended)
        self._network = NetworkGate(shared)
        self._projects = Projects(shared)
        self._engine = WarmEngine(shared, self.governor, self._projects.fair)
        self._network_wait_seconds = _LEAST_NETWORK_WAIT_SECONDS
        """How long one project's network work may delay the turn of another one that is due.

        A small share of what a unit takes, so that the shares also hold where an answer takes
        seconds: a coordinator that never ends its answer costs the others no more than that.
        """

    # -- called from outside ----------------------------------------------------------------

    def note(self, kind: EventKind, sentence: Sentence, project: str = "") -> None:
        """Enter an event into the history."""
        self._history.note(kind, sentence, project)

    def stop(self, *, finish: bool = False) -> None:
        """End the loop: now, keeping a checkpoint, or after what is in hand was reported.

        A unit of a device that the user holds back is not waited for.
        """
        self._budget.finishing = True
        is_held_back = self.governor.decision.reason in HELD_BACK
        if not finish or is_held_back or not self._open_assignments():
            self._stopped.set()
        self._wake.set()

    def look_again(self) -> None:
        """Readings changed: decide again what may be done, and what may be exchanged."""
        self.governor.look_again()
        self._network.look_again()

    def changed(self) -> None:
        """Projects or the user's requests changed: look at them now."""
        self.look_again()
        for project in self._projects.live.values():
            project.look_now()
        self._wake.set()

    def renew_engine(self) -> None:
        """Restart the engine before the next unit: what it was started with has changed."""
        self._engine.renew()
        self._wake.set()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process; None: there is none."""
        return self._services.engine.pid

    async def leave(self, project: int) -> None:
        """Leave a project that is marked as to be left, as soon as the current request ends.

        A unit of it that is being computed is stopped first. `project`: one of this PC's hosts.
        """
        unit = self.status.unit
        hosts = {row.id for row in self._services.journal.hosts(project)}
        live = [one.name for number, one in self._projects.live.items() if number in hosts]
        if unit is not None and unit.project in live:
            await self._services.engine.request_checkpoint_and_stop()
        self.changed()

    async def unit_held(self, number: int) -> None:
        """The user has paused, resumed or handed back a unit: stop computing it, look again."""
        unit = self.status.unit
        if unit is not None and unit.id == number:
            await self._services.engine.request_checkpoint_and_stop()
        self.changed()

    def state(self) -> AgentState:
        """Return what the agent does and why; a pause shows at once, whatever is still ending."""
        decision = self.governor.decision
        if decision.action is Action.RUN:
            return self.status.state
        return AgentState(Activity.PAUSED, decision.sentence, self.governor.next_look_at)

    def network(self) -> NetworkDecision:
        """Return whether the network may be used now, and why not."""
        return self._network.look()

    def problems(self) -> dict[int, str]:
        """Return what is wrong with each project, empty for those that work."""
        return self._projects.problems()

    # -- the loop ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until stopped, or until as many units as wanted are finished."""
        clean_work_dir(self._services.work_dir, self._services.journal)
        governing = asyncio.create_task(self.governor.run())
        working = asyncio.create_task(self._work())
        stopped = asyncio.create_task(self._stopped.wait())
        watching = asyncio.create_task(self._network.watch(self._stop_network, self._wake.set))
        tasks: set[asyncio.Task[Any]] = {governing, working, stopped, watching}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() and self.status.unit is not None:
                with suppress(WorkerError):  # the engine writes a checkpoint first
                    await self._services.engine.resume()
                    await self._services.engine.request_checkpoint_and_stop()
                    await asyncio.wait({working}, timeout=_CHECKPOINT_SECONDS)
            for task in tasks - {stopped}:
                if task.done():
                    task.result()  # a defect ends the process with its traceback
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._projects.close()
            await self._services.engine.close()

    async def _work(self) -> None:
        while not self._stopped.is_set() and not self._budget.is_reached:
            if self._budget.finishing and not self._open_assignments():
                return
            await self._step()

    def _open_assignments(self) -> list[AssignmentRow]:
        """Return the units that are to be finished; one that the user has paused is not."""
        found = self._services.journal.open_assignments(device=self.device)
        return [row for row in found if row.held is not Held.PAUSED]

    async def _step(self) -> None:
        """Do one thing: wait until work is allowed, for something to do, or take a turn."""
        self._wake.clear()
        self._network_ended.clear()
        for project in list(self._projects.live.values()):
            task = project.task
            if task is not None and task.done():  # network work that outlasted its turn
                project.task = None
                if not task.cancelled():
                    await self._guard(project, task)
        if not self.governor.may_run:
            await self._wait_until_allowed()
            return
        allowed = self._network.look().allowed
        joins = allowed and self._projects.may_join()
        if joins and await self._warm() is None:  # only a device that computes becomes a host
            await self._projects.follow(None)
            return
        await self._projects.follow(self._engine.runtime if allowed else None, joins=joins)
        if not self._projects.live:
            if self._projects.unopened:
                problems = " ".join(self._projects.unopened.values())
                self.status.set(Activity.PROBLEM, problems)
            else:
                self.status.set(Activity.IDLE, "No project is attached: `pleb-agent attach LINK`.")
            await self._sleep(await self._engine.rest())
        elif self._network.look().allowed:
            await self._step_with_network()
        else:
            await self._step_without_network()

    async def _wait_until_allowed(self) -> None:
        """Wait until work is allowed, or something outside has changed."""
        decision = self.governor.decision
        self.status.set(Activity.PAUSED, decision.sentence)
        if decision.reason in HELD_BACK:
            await self._projects.follow(None)  # it may stay so: leave what is to be left
            if self._budget.finishing:
                self._stopped.set()
                return
        await _first(self.governor.until_allowed(), self._wake.wait())

    async def _step_with_network(self) -> None:
        """Take the turn of the project that is next: fetch a unit, compute it, report it."""
        runtime = await self._warm()
        if runtime is None:
            return
        project = self._projects.next_turn()
        if project is None:
            waiting = any(one.received() for one in self._projects.live.values())
            rest = math.inf if waiting else await self._engine.rest()
            look_at = self._projects.next_look_at()
            now = asyncio.get_running_loop().time()
            await self._sleep(rest if look_at is None else min(rest, look_at - now))
            return
        project.take_turn()
        await self._guard(project, self._turn(project, runtime))

    async def _turn(self, project: Project, runtime: Runtime) -> None:
        alone = len(self._projects.live) == 1
        self.status.set(Activity.WORKING, say("Working for {project}.", project=project.name))
        unit = await self._in_background(project, lambda: project.next_unit(runtime, alone=alone))
        if unit is None or not self.governor.may_run:
            return
        await self._compute(project, unit)
        if not self._network.look().allowed:
            project.keep_results()
            return
        asks = self._goes_on(project, 0.0)
        await self._in_background(project, lambda: project.report(runtime, alone=alone, asks=asks))

    async def _step_without_network(self) -> None:
        """Compute what is in hand; results wait until the network may be used."""
        found = self._projects.next_unit_offline()
        if found is not None:
            if await self._warm() is not None:
                project, unit = found
                await self._guard(project, self._compute(project, unit))
                self._projects.keep_results()
        elif self._budget.finishing:
            self._stopped.set()  # what is in the journal is reported after the next start
        else:
            rest = await self._engine.rest()
            await self._sleep(min(rest, self._network.show_closed()))

    async def _compute(self, project: Project, unit: FetchedUnit) -> None:
        self.status.set(Activity.WORKING, say("Working for {project}.", project=project.name))
        began_at = asyncio.get_running_loop().time()
        end = await self._engine.run(
            project, unit, lambda more_seconds: self._goes_on(project, more_seconds)
        )
        if end is not None:
            project.keep(end)
        took = asyncio.get_running_loop().time() - began_at
        wait = max(_LEAST_NETWORK_WAIT_SECONDS, _NETWORK_WAIT_SHARE * took)
        self._network_wait_seconds = min(wait, _MOST_NETWORK_WAIT_SECONDS)

    def _goes_on(self, project: Project, more_seconds: float) -> bool:
        """Whether the project has the next turn too, after `more_seconds` of its unit."""
        is_ready = self._engine.runtime is not None and self._network.look().allowed
        return is_ready and self._projects.is_next(project, more_seconds)

    async def _warm(self) -> Runtime | None:
        """Return the warm engine's runtime; None after a wait if there is none."""
        wait = await self._engine.start()
        if wait:
            await self._sleep(wait)
        return self._engine.runtime

    # -- network work -----------------------------------------------------------------------

    async def _in_background(self, project: Project, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do network work; None if it continues in the background, since something else is due.

        So one project's slow coordinator never delays another project's units.
        """
        task = project.start(work)
        loop = asyncio.get_running_loop()
        wait_until = loop.time() + self._network_wait_seconds
        while not task.done():
            look_at = self._projects.next_look_at()
            wait = None if look_at is None else max(look_at, wait_until) - loop.time()
            if self._wake.is_set() or (wait is not None and wait <= 0):
                return None
            woken = asyncio.create_task(self._wake.wait())
            try:
                await asyncio.wait({task, woken}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
        project.task = None
        return None if task.cancelled() else task.result()

    async def _stop_network(self) -> None:
        """The network may not be used any more: stop everything that is under way."""
        await self._projects.stop_network()
        self._wake.set()

    async def _guard(self, project: Project, turn: Awaitable[None]) -> None:
        """Take a turn, or a part of one; the project notes what fails."""
        try:
            await turn
        except UnitStopped:
            return
        except PlebError as error:
            if isinstance(error, WorkerError):
                self._engine.forget()
            project.fail(error)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until there is something to look at."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await _first(self._wake.wait(), self._network_ended.wait())


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of them does; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
