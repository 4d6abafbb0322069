"""What the faces ask of agentd: the implementation of `web.control.Control`."""

from __future__ import annotations

import json
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.app.clock import system_clock, tomorrow_morning
from pleb_agent.app.view import message_of, unit_view, wish_view
from pleb_agent.core.wish import WishKind
from pleb_agent.web.views import LogView, StatusView
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pleb_agent.app.bell import Bell
    from pleb_agent.app.home import Home
    from pleb_agent.app.live_preferences import LivePreferences
    from pleb_agent.app.view import Shower
    from pleb_agent.app.wishes import Wishes
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.agent_loop import AgentLoop
    from pleb_agent.loop.attach import Attaching
    from pleb_agent.web.control import AttachWish, BoostWish, DetachWish, PauseWish, StopWish
    from pleb_agent.web.views import ProjectView

__all__ = ["Steering", "find_attached"]

_MOST_LOG_LINES: Final = 5000


@dataclass(frozen=True)
class Steering:
    """agentd, seen from its faces. `desktop`: a session is watched."""

    home: Home
    journal: Journal
    loop: AgentLoop
    wishes: Wishes
    preferences: LivePreferences
    attaching: Attaching
    shower: Shower
    bell: Bell
    desktop: bool

    # -- looking ----------------------------------------------------------------------------

    def status(self) -> StatusView:
        """Return what the agent does."""
        state, live, now = self.loop.state(), self.loop.status, system_clock()
        wish = wish_view(self.wishes.current, now)
        projects = self.shower.projects(self.preferences.current, self.loop.problems())
        return StatusView(
            running=True,
            activity=state.activity.value,
            sentence=str(state.sentence),
            message=message_of(state.sentence),
            next_look_at=state.next_look_at,
            reason=self.loop.governor.decision.reason.value,
            wish=wish,
            paused=wish.kind == WishKind.PAUSE.value,
            unit=unit_view(live.unit),
            units_finished=live.units_finished,
            pid=os.getpid(),
            desktop=self.desktop,
            first_run=not self.journal.setting("welcome_closed"),
            projects=projects,
            open=self.shower.open(),
            history=self.shower.history(),
        )

    def changes(self) -> AsyncIterator[StatusView]:
        """Yield the status now and after each change."""
        return self.bell.values(self.status)

    def log(self, lines: int) -> LogView:
        """Return the log's end."""
        with suppress(FileNotFoundError), self.home.log.open(encoding="utf-8") as file:
            return LogView(lines=_parsed(deque(file, maxlen=min(lines, _MOST_LOG_LINES))))
        return LogView(lines=[])

    # -- doing ------------------------------------------------------------------------------

    async def attach(self, wish: AttachWish) -> ProjectView:
        """Attach a project; return it."""
        row = await self.attaching.attach(wish.link, invite=wish.invite, name=wish.name)
        self.loop.changed()
        self.bell.ring()
        return self.shower.project(row, self.preferences.current, "")

    async def detach(self, wish: DetachWish) -> ProjectView:
        """Leave a project; what is in hand is given back."""
        row = find_attached(self.journal, wish.project)
        view = self.shower.project(row, self.preferences.current, "")
        self.journal.mark_detaching(row.id)
        await self.loop.leave(row.id)
        self.bell.ring()
        return view

    async def pause(self, wish: PauseWish) -> StatusView:
        """Hold still."""
        now = system_clock()
        if wish.until_tomorrow:
            until: float | None = tomorrow_morning(now)
        else:
            until = None if wish.seconds is None else now + wish.seconds
        self.wishes.pause(until)
        return self._wished()

    async def boost(self, wish: BoostWish) -> StatusView:
        """Run now."""
        self.wishes.boost(system_clock() + wish.seconds)
        return self._wished()

    async def resume(self) -> StatusView:
        """End a pause or a boost."""
        self.wishes.resume()
        return self._wished()

    async def stop(self, wish: StopWish) -> StatusView:
        """End the agent."""
        self.loop.stop(finish=wish.finish)
        return self.status()

    async def close_welcome(self) -> StatusView:
        """The user has seen the first run to its end."""
        self.journal.set_setting("welcome_closed", "yes")
        self.bell.ring()
        return self.status()

    def _wished(self) -> StatusView:
        self.loop.changed()
        self.bell.ring()
        return self.status()


def find_attached(journal: Journal, name: str) -> ProjectRow:
    """Return the attached project of this name, or with this link.

    Raises:
        InputError: none, or several of that name at different coordinators.
    """
    rows = [row for row in journal.projects() if not row.detaching]
    found = [row for row in rows if name in {row.name, row.link, row.base_url}]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"No project {name!r} is attached; `pleb-agent projects` lists them.")
    raise InputError(f"{len(found)} projects are called {name!r}: give the whole attach link.")


def _parsed(lines: deque[str]) -> list[dict[str, Any]]:
    """The lines that are JSON; the last one may be cut off by a power cut."""
    parsed = []
    for line in lines:
        with suppress(ValueError):
            parsed.append(json.loads(line))
    return parsed
