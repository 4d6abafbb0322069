"""What the faces ask of agentd: the implementation of `web.control.Control`."""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pleb_agent.app.clock import system_clock, tomorrow_morning
from pleb_agent.core.history import EventKind
from pleb_agent.core.preference_table import changed
from pleb_agent.core.presets import with_preset
from pleb_agent.core.sentence import say
from pleb_agent.sensors.machine import read_machine
from pleb_agent.web.views import LinkView, LogView, PageAddress
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pleb_agent.app.bell import Bell
    from pleb_agent.app.home import Home
    from pleb_agent.app.live_preferences import LivePreferences
    from pleb_agent.app.looking import Looking
    from pleb_agent.app.packages import Packages
    from pleb_agent.app.session import SessionStart
    from pleb_agent.app.wishes import Wishes
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.agent_loop import AgentLoop
    from pleb_agent.loop.attach import Attaching
    from pleb_agent.web.control import (
        AttachWish,
        AutostartWish,
        BoostWish,
        DetachWish,
        LinkWish,
        LookWish,
        PageWish,
        PauseWish,
        PreferencesWish,
        PresetWish,
        RuntimeWish,
        StopWish,
    )
    from pleb_agent.web.sessions import Sessions
    from pleb_agent.web.views import (
        AutostartView,
        ContributionView,
        CurveView,
        HistoryView,
        PreferencesView,
        ProjectFacts,
        ProjectView,
        StatusView,
    )

__all__ = ["Steering", "find_attached"]

_MOST_LOG_LINES: Final = 5000


class NetworkNotAllowedError(PlebError):
    """The user's own rules hold the network back now."""


@dataclass(frozen=True)
class Steering:
    """agentd, seen from its faces. `port`: the loopback server's."""

    home: Home
    journal: Journal
    loop: AgentLoop
    wishes: Wishes
    live: LivePreferences
    attaching: Attaching
    looking: Looking
    bell: Bell
    session: SessionStart
    sessions: Sessions
    packages: Packages
    port: Callable[[], int]

    # -- looking ----------------------------------------------------------------------------

    def status(self) -> StatusView:
        """Return what the agent does."""
        return self.looking.status()

    def changes(self) -> AsyncIterator[StatusView]:
        """Yield the status now and after each change."""
        return self.bell.values(self.looking.status)

    def preferences(self) -> PreferencesView:
        """Return the user's preferences, the presets and the machine."""
        return self.looking.preferences()

    def contribution(self, days: int) -> ContributionView:
        """Return what was given."""
        return self.looking.contribution(days)

    def history(self, *, before: int | None, count: int) -> HistoryView:
        """Return events, newest first."""
        return self.looking.history(before, count)

    async def curve(self, project: str) -> CurveView:
        """Return how a project got better."""
        row = find_attached(self.journal, project)
        decision = self.loop.network()
        if not decision.allowed:
            raise NetworkNotAllowedError(str(decision.sentence))
        return await self.looking.curve(row)

    def facts(self, project: str) -> ProjectFacts:
        """Return what is known of an attached project."""
        return self.looking.facts(find_attached(self.journal, project))

    async def look_at(self, wish: LookWish) -> ProjectFacts:
        """Return what a link's project is, without attaching it."""
        found = await self.attaching.look_at(wish.link)
        return self.looking.facts_of(found.link, found.metadata)

    def log(self, lines: int) -> LogView:
        """Return the log's end."""
        with suppress(FileNotFoundError), self.home.log.open(encoding="utf-8") as file:
            return LogView(lines=_parsed(deque(file, maxlen=min(lines, _MOST_LOG_LINES))))
        return LogView(lines=[])

    def autostart(self) -> AutostartView:
        """Return whether the agent starts with the session."""
        return self.session.view()

    # -- doing ------------------------------------------------------------------------------

    async def attach(self, wish: AttachWish) -> ProjectView:
        """Attach a project; return it."""
        row = await self.attaching.attach(wish.link, invite=wish.invite, name=wish.name)
        self._changed()
        return self.looking.project(row)

    async def detach(self, wish: DetachWish) -> ProjectView:
        """Leave a project; what is in hand is given back."""
        row = find_attached(self.journal, wish.project)
        view = self.looking.project(row)
        self.journal.mark_detaching(row.id)
        await self.loop.leave(row.id)
        self.bell.ring()
        return view

    async def link(self, wish: LinkWish) -> LinkView:
        """Return the text that joins another PC to the account."""
        row = find_attached(self.journal, wish.project)
        return LinkView(
            text=self.attaching.account_link(row),
            sentence=(
                "Attach your other PC with this text. Whoever has it works, and is seen, "
                "as you: keep it as you keep a password."
            ),
        )

    async def pause(self, wish: PauseWish) -> StatusView:
        """Hold still."""
        now = system_clock()
        if wish.until_tomorrow:
            until: float | None = tomorrow_morning(now)
        else:
            until = None if wish.seconds is None else now + wish.seconds
        self.wishes.pause(until)
        return self._changed()

    async def boost(self, wish: BoostWish) -> StatusView:
        """Run now."""
        self.wishes.boost(system_clock() + wish.seconds)
        return self._changed()

    async def resume(self) -> StatusView:
        """End a pause or a boost."""
        self.wishes.resume()
        return self._changed()

    async def stop(self, wish: StopWish) -> StatusView:
        """End the agent."""
        self.loop.stop(finish=wish.finish)
        return self.status()

    async def set_preferences(self, wish: PreferencesWish) -> PreferencesView:
        """Change preferences; all of the changes, or none if one is wrong."""
        return self._prefer(lambda old: changed(old, wish.changes))

    async def take_preset(self, wish: PresetWish) -> PreferencesView:
        """Take a preset; what it does not name stays."""
        cores = read_machine().cores
        return self._prefer(lambda old: with_preset(old, wish.name, cores))

    async def set_autostart(self, wish: AutostartWish) -> AutostartView:
        """Start with the session, or not."""
        return self.session.turn(on=wish.on)

    async def fetch_runtime(self, wish: RuntimeWish) -> StatusView:
        """Begin to fetch a torch runtime."""
        self.packages.begin_runtime(wish.kind)
        return self.status()

    async def install_update(self) -> StatusView:
        """Install the newer release of a self-updating archive, then start it."""
        await self.packages.install_update()
        self.loop.stop()
        return self.status()

    async def close_welcome(self) -> StatusView:
        """The user has seen the first run to its end."""
        self.journal.set_setting("welcome_closed", "yes")
        self.bell.ring()
        return self.status()

    def page_address(self, wish: PageWish) -> PageAddress:
        """Return an address that opens the page once."""
        link = f"&link={quote(wish.link, safe='')}" if wish.link else ""
        code = self.sessions.new_code()
        return PageAddress(url=f"http://127.0.0.1:{self.port()}/open?code={code}{link}")

    # -- inside -----------------------------------------------------------------------------

    def _changed(self) -> StatusView:
        self.loop.changed()
        self.bell.ring()
        return self.status()

    def _prefer(self, change: Callable[[Preferences], Preferences]) -> PreferencesView:
        self.live.change(change)
        self.loop.note(EventKind.PREFERENCES, say("You changed what the agent may do."))
        self._changed()
        return self.looking.preferences()


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
