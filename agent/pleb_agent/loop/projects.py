"""The attached projects: opened, followed and left as the journal says, and whose turn is next."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.devices import CPU
from pleb_agent.core.history import EventKind
from pleb_agent.core.sentence import say
from pleb_agent.core.shares import (
    Ledger,
    begin,
    charge,
    choose,
    enter,
    forget,
    settle,
    share_of,
)
from pleb_agent.loop.attach import Attaching, leave_host, suits_cards
from pleb_agent.loop.files import remove_units
from pleb_agent.loop.project import Project
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.files import FetchedUnit
    from pleb_agent.loop.services import CurrentPreferences
    from pleb_agent.loop.status import LoopState
    from pleb_shared.protocol.messages import Runtime

__all__ = ["FairTurns", "Projects"]

_SETTING: Final = "shares"
_CHANGE_SHARE: Final = 0.05
"""Of the time, at most, goes to starting workers because the turn changes."""
_MOST_PATIENCE_SECONDS: Final = 300.0
_CHEAP_START_SECONDS: Final = 0.5
_SOON_SECONDS: Final = 120.0
"""A project that is looked at later than that has no work."""
_ENROL_AGAIN_SECONDS: Final = 300.0
_GIVE_BACK_SECONDS: Final = 15.0
"""How long leaving a project waits for its coordinator."""


class FairTurns:
    """Turns in proportion to the preference `shares`; the ledger is in memory and the journal."""

    def __init__(
        self, journal: Journal, preferences: CurrentPreferences, device: str = CPU
    ) -> None:
        self._journal = journal
        self._preferences = preferences
        self._setting = _SETTING if device == CPU else f"{_SETTING}/{device}"
        text = journal.setting(self._setting)
        self._ledger = msgspec.json.decode(text, type=Ledger) if text else Ledger()
        self._warm: str | None = None
        """The folder that the worker is closed around: a project's, or a family's."""
        self._warm_since = 0.0
        self._patience_seconds = 0.0
        self._members: dict[str, int] = {}
        """By family, how many of its members have work, as far as is known."""

    def look_at(self, live: Iterable[Project]) -> None:
        """Count the members of each family among which its share is divided: not finished ones."""
        soon = asyncio.get_running_loop().time() + _SOON_SECONDS
        self._members = dict(Counter(one.family for one in live if one.next_look_at <= soon))

    def change_costs(self, seconds: float) -> None:
        """A worker took this long to start; it serves one project, or one family."""
        patience = min(seconds / _CHANGE_SHARE, _MOST_PATIENCE_SECONDS)
        self._patience_seconds = patience if seconds > _CHEAP_START_SECONDS else 0.0

    def _patience(self, more_seconds: float = 0.0) -> float:
        """Return how far ahead those may get whose worker runs, `more_seconds` from now.

        Not for longer than that: units that fail at once are charged nothing, and would go on.
        """
        row_seconds = asyncio.get_running_loop().time() + more_seconds - self._warm_since
        return self._patience_seconds if row_seconds < self._patience_seconds else 0.0

    def choose(self, due: Sequence[Project]) -> Project:
        """Return whose turn it is; of equals the one that has waited longest.

        Those whose worker runs have several turns, if their units are short.
        """
        by_number = {one.id: one for one in sorted(due, key=lambda one: one.next_look_at)}
        shares = {number: self._share(one) for number, one in by_number.items()}
        self._ledger = enter(self._ledger, shares)
        return by_number[choose(self._ledger, shares, self._are_warm(due), self._patience())]

    def begin(self, project: Project) -> None:
        """A unit of this project starts."""
        if self._warm != project.work_folder or not self._patience():
            self._warm, self._warm_since = project.work_folder, asyncio.get_running_loop().time()
        self._keep(begin(self._ledger, project.id, self._share(project)))

    def end(self, project: Project) -> None:
        """The unit has ended, or was checkpointed to be resumed later."""
        self._keep(settle(self._ledger, project.id, self._share(project)))

    def charge(self, project: Project, compute_seconds: float) -> None:
        """The engine computed for this project."""
        self._keep(charge(self._ledger, project.id, compute_seconds, self._share(project)))

    def is_next(self, project: Project, others: Sequence[Project], more_seconds: float) -> bool:
        """Whether the project will be chosen again after `more_seconds` of its unit.

        Of equals the others come first.
        """
        share = self._share(project)
        ahead = charge(self._ledger, project.id, more_seconds, share)
        shares = {one.id: self._share(one) for one in others} | {project.id: share}
        warm = self._are_warm([*others, project])
        return choose(ahead, shares, warm, self._patience(more_seconds)) == project.id

    def _are_warm(self, due: Iterable[Project]) -> set[int]:
        """Return those of them that the worker which runs can compute for."""
        return {one.id for one in due if one.work_folder == self._warm}

    def forget(self, project: int) -> None:
        """The project was left; its number may be used again for another one."""
        self._keep(forget(self._ledger, project))

    def _share(self, project: Project) -> int:
        members = self._members.get(project.family, 1)
        return share_of(self._preferences().shares, project.name, project.family, members)

    def _keep(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._journal.keep_setting(self._setting, msgspec.json.encode(ledger).decode())


class Projects:
    """All attached projects, as live objects."""

    def __init__(self, loop: LoopState) -> None:
        self._loop = loop
        self._services = loop.services
        self._journal = loop.services.journal
        self._device = loop.services.device
        self.fair = FairTurns(self._journal, loop.services.preferences, self._device)
        self.live: dict[int, Project] = {}
        self.unopened: dict[int, str] = {}
        """Projects that cannot be opened, for instance without their key, and why."""
        self._enrol_at: dict[int, float] = {}
        """When a refused enrolment may be tried again, by the project, on the event loop's clock.
        """
        self._enrol_problems: dict[int, str] = {}
        """Why the last one failed: told once, and not at every try."""

    def problems(self) -> dict[int, str]:
        """Return what is wrong with each project, empty for those that work."""
        return {number: one.problem for number, one in self.live.items()} | self.unopened

    def next_turn(self) -> Project | None:
        """Return whose turn it is now; None: no project is due."""
        due = self.due()
        self.fair.look_at(self.live.values())
        # A unit in hand was promised its turn when it was asked for; its lease runs.
        waiting = [one for one in due if one.received()]
        return self.fair.choose(waiting or due) if due else None

    def next_unit_offline(self) -> tuple[Project, FetchedUnit] | None:
        """Return whose unit is computed next without the network; None: there is none."""
        found: dict[Project, FetchedUnit] = {}
        for project in self.live.values():
            unit = None if project.is_busy else project.next_unit_offline()
            if unit is not None:
                found[project] = unit
        self.keep_results()
        if not found:
            return None
        project = self.fair.choose(list(found))
        return project, found[project]

    def due(self) -> list[Project]:
        """Return those that may have their turn now: their network task has ended."""
        now = asyncio.get_running_loop().time()
        return [one for one in self.live.values() if not one.is_busy and one.next_look_at <= now]

    def next_look_at(self) -> float | None:
        """Return when the next one is due by time alone; None: all of them are busy."""
        times = [one.next_look_at for one in self.live.values() if not one.is_busy]
        return min(times, default=None)

    def is_next(self, project: Project, more_seconds: float) -> bool:
        """Whether the project has the next turn too, after `more_seconds` of its unit."""
        others = [one for one in self.due() if one is not project]
        return self.fair.is_next(project, others, more_seconds)

    def keep_results(self) -> None:
        """Write the results that no request carries yet."""
        for project in self.live.values():
            project.keep_results()

    async def follow(self, runtime: Runtime | None, *, joins: bool = False) -> None:
        """Open projects that were attached, leave those that are to be left.

        `runtime`: needed to give units back; None if the coordinator may not be asked. `joins`: a
        card may enrol with projects of which it is no host yet.
        """
        if joins:
            await self._enrol()
        rows = {row.id: row for row in self._journal.projects(self._device)}
        self.unopened.clear()
        for number, row in rows.items():
            if row.detaching:
                await self._leave(row, runtime)
            elif number not in self.live:
                self._try_to_open(row)
            elif self.live[number].link != row.link:  # it has moved to another coordinator
                await self.live.pop(number).close()
                self._try_to_open(row)
        for number in set(self.live) - set(rows):
            await self.live.pop(number).close()

    async def stop_network(self) -> None:
        """Stop all network work; results are written."""
        for project in self.live.values():
            await project.stop_network()

    async def close(self) -> None:
        """Stop all network work and close the connections."""
        for project in self.live.values():
            await project.close()

    def _try_to_open(self, row: ProjectRow) -> None:
        try:
            key = self._services.keys.load(row.host_key_file)
            client = self._services.make_client(row.attach_link)
            self.live[row.id] = Project(row, key, client, self._loop)
        except InputError as error:
            self.unopened[row.id] = str(error)

    def may_join(self) -> bool:
        """Whether this device is a card that could enrol with a project now."""
        return self._device != CPU and bool(self._to_join())

    def _to_join(self) -> list[ProjectRow]:
        known = {(row.base_url, row.name) for row in self._journal.projects(self._device)}
        now, clock = asyncio.get_running_loop().time(), self._services.clock()
        return [
            row
            for row in self._journal.projects()
            if not row.detaching
            and (row.base_url, row.name) not in known
            and now >= self._enrol_at.get(row.id, 0.0)
            and suits_cards(row, clock)
        ]

    async def _enrol(self) -> None:
        """Enrol this device as a host of its own with what the PC has been attached to."""
        services, loop = self._services, asyncio.get_running_loop()
        attaching = Attaching(self._journal, services.keys, services.clock, services.make_client)
        for row in self._to_join():
            try:
                await attaching.add_device(row, self._device)
                self._enrol_problems.pop(row.id, None)
            except PlebError as error:
                asked = getattr(error, "retry_after_seconds", None) or 0.0
                self._enrol_at[row.id] = loop.time() + max(_ENROL_AGAIN_SECONDS, asked)
                if self._enrol_problems.get(row.id) == str(error):
                    continue
                self._enrol_problems[row.id] = str(error)
                sentence = say(
                    "{device} cannot join {project}: {reason}",
                    device=self._device,
                    project=row.name,
                    reason=say(str(error)),
                )
                self._loop.history.note(EventKind.PROBLEM, sentence, row.name)

    async def _leave(self, row: ProjectRow, runtime: Runtime | None) -> None:
        """Give units back as far as the coordinator can be reached, then forget the project."""
        if row.id not in self.live:
            self._try_to_open(row)
        project = self.live.pop(row.id, None)
        self.unopened.pop(row.id, None)
        if project is not None:
            await project.stop_network()
            if runtime is not None:
                with suppress(PlebError, TimeoutError):
                    async with asyncio.timeout(_GIVE_BACK_SECONDS):
                        await project.leave(runtime)
            await project.close()
            self._services.cache.discard_all_of(project.files.cipher)
            project.own.store.remove()
        units = self._journal.open_assignments(row.id)
        leave_host(self._journal, self._services.keys, row)
        if not self._journal.hosts():
            self._services.cache.clear()
        if self._device == CPU:
            sentence = say("Left {project}.", project=row.name)
            self._loop.history.note(EventKind.DETACH, sentence, row.name)
        self.fair.forget(row.id)
        # The worker may be this project's, and what comes next may get its number.
        await self._services.engine.request_checkpoint_and_stop()
        remove_units(self._services.work_dir, row, units, self._journal)
