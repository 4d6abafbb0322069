"""The loops of all devices of this PC, side by side, as one to the faces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pleb_agent.core.readiness import HELD_BACK, Action
from pleb_agent.loop.agent_loop import AgentLoop
from pleb_agent.loop.attach import leave_host
from pleb_agent.loop.status import UnitBudget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.core.agent_state import AgentState
    from pleb_agent.core.history import EventKind
    from pleb_agent.core.network_rules import NetworkDecision
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.loop.governor import Governor
    from pleb_agent.loop.services import Listener, Services
    from pleb_agent.loop.status import CurrentUnit, LiveStatus

__all__ = ["AllStatus", "SideBySide"]


class AllStatus:
    """What the loops do, as one: `unit` is that of the first device that computes one."""

    def __init__(self, statuses: Sequence[LiveStatus]) -> None:
        self._statuses = statuses

    @property
    def unit(self) -> CurrentUnit | None:
        """The first unit that is being computed."""
        return next((one.unit for one in self._statuses if one.unit is not None), None)

    @property
    def units(self) -> list[CurrentUnit]:
        """All of them, in the order of the devices."""
        return [one.unit for one in self._statuses if one.unit is not None]

    @property
    def units_finished(self) -> int:
        """By all devices since the start of this process."""
        return sum(one.units_finished for one in self._statuses)


class SideBySide:
    """One loop for each device, the processor's first; each has its own engine and its own turn.

    `units`: stop after this many, of all devices; None: never.
    """

    def __init__(
        self,
        services: Sequence[Services],
        listener: Listener | None = None,
        *,
        units: int | None = None,
    ) -> None:
        budget = UnitBudget(units)
        self.loops = [AgentLoop(one, listener, budget=budget) for one in services]
        self.status = AllStatus([loop.status for loop in self.loops])
        self._budget = budget
        self._journal = services[0].journal
        self._keys = services[0].keys

    # -- what faces see ---------------------------------------------------------------------

    @property
    def governor(self) -> Governor:
        """The one whose decision is shown for the PC."""
        return self._shown().governor

    @property
    def is_computing(self) -> bool:
        """Whether any device has a unit and may work on it now."""
        return any(one.status.unit is not None and one.governor.may_run for one in self.loops)

    @property
    def is_stopping(self) -> bool:
        """Whether the agent ends when what is in hand is reported."""
        return self._budget.finishing

    def state(self) -> AgentState:
        """Return what the agent does and why."""
        return self._shown().state()

    def network(self) -> NetworkDecision:
        """Return whether the network may be used now, and why not."""
        return self.loops[0].network()

    def problems(self) -> dict[int, str]:
        """Return what is wrong with each project on a device, by the processor's host."""
        found = self.loops[0].problems()
        names = {(row.base_url, row.name): row.id for row in self._journal.projects()}
        for loop in self.loops[1:]:
            problems = loop.problems()
            for row in self._journal.projects(loop.device):
                number = names.get((row.base_url, row.name))
                if number is not None and problems.get(row.id):
                    found[number] = found.get(number) or f"{loop.device}: {problems[row.id]}"
        return found

    def _shown(self) -> AgentLoop:
        """Return the loop that stands for the PC: the processor's, unless it does not compute.

        A card that works is more to say than a processor that does not. If the processor is
        switched off or paused alone, the PC is what its cards are.
        """
        first = self.loops[0]
        runs = [one for one in self.loops if one.governor.decision.action is Action.RUN]
        if first in runs:
            return first
        working = [one for one in runs if one.status.unit is not None]
        if working or first.governor.decision.reason not in HELD_BACK:
            return (working or [first])[0]
        free = [one for one in self.loops if one.governor.decision.reason not in HELD_BACK]
        return (runs or free or [first])[0]

    # -- called from outside ----------------------------------------------------------------

    def note(self, kind: EventKind, sentence: Sentence, project: str = "") -> None:
        """Enter an event into the history."""
        self.loops[0].note(kind, sentence, project)

    def stop(self, *, finish: bool = False) -> None:
        """End all loops: now, keeping checkpoints, or after what is in hand was reported."""
        for loop in self.loops:
            loop.stop(finish=finish)

    def look_again(self) -> None:
        """Readings changed."""
        for loop in self.loops:
            loop.look_again()

    def changed(self) -> None:
        """Projects or the user's requests changed."""
        for loop in self.loops:
            loop.changed()

    def renew_engine(self) -> None:
        """Restart the engines before their next units: what they were started with has changed."""
        for loop in self.loops:
            loop.renew_engine()

    async def unit_held(self, number: int) -> None:
        """The user has paused, resumed or handed back a unit."""
        for loop in self.loops:
            await loop.unit_held(number)

    async def leave(self, project: int) -> None:
        """Leave a project that is marked as to be left, with all devices."""
        self._leave_with_absent()
        for loop in self.loops:
            await loop.leave(project)

    def _leave_with_absent(self) -> None:
        """Forget the hosts of projects to be left whose device is not in this PC any more."""
        present = {loop.device for loop in self.loops}
        for row in self._journal.hosts():
            if row.detaching and row.device not in present:
                leave_host(self._journal, self._keys, row)

    async def run(self) -> None:
        """Work until stopped, or until as many units as wanted are finished."""
        self._leave_with_absent()
        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(one.run()) for one in self.loops}
        running = set(tasks)
        try:
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a defect ends the process with its traceback
                if self._budget.is_reached:
                    self.stop()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
