"""agentd's composition root: builds every part by hand, runs them until the loop ends."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.app.bell import Bell
from pleb_agent.app.clock import system_clock, system_draw
from pleb_agent.app.joining import attaching, client_for
from pleb_agent.app.live_preferences import LivePreferences
from pleb_agent.app.looking import Looking
from pleb_agent.app.notices import Notices
from pleb_agent.app.packages import Packages
from pleb_agent.app.secret import read_secret
from pleb_agent.app.senses import Senses
from pleb_agent.app.session import SessionStart
from pleb_agent.app.session_watch import SessionWatch
from pleb_agent.app.settings import worker_settings
from pleb_agent.app.steering import Steering
from pleb_agent.app.tray_keeper import TrayKeeper
from pleb_agent.app.unit_watch import UnitWatch
from pleb_agent.app.view import Shower
from pleb_agent.app.wishes import Wishes
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.network import Network
from pleb_agent.core.history import EventKind
from pleb_agent.core.presets import with_preset
from pleb_agent.core.sentence import say
from pleb_agent.desktop.display import display_address
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.keys import KeyStore
from pleb_agent.loop.agent_loop import AgentLoop
from pleb_agent.loop.services import Listener, Services
from pleb_agent.sensors.keep_awake import KeepAwake, stays_awake
from pleb_agent.sensors.machine import read_machine
from pleb_agent.tray.words import session_language
from pleb_agent.web.app import web_app
from pleb_agent.web.server import LocalServer
from pleb_agent.web.sessions import SECRET_BYTES, Sessions
from pleb_agent.worker.process import WorkerProcess
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pleb_agent.app.home import Home
    from pleb_agent.core.history import Event
    from pleb_agent.core.preferences import Preferences

__all__ = ["Afterwards", "Options", "run_agentd"]

_LOG: Final = logging.getLogger("pleb.agent")
_PORT: Final = "port"
_DRAWN_BYTES: Final = 32


@dataclass(frozen=True)
class Options:
    """How this process was started. `preset` and `threads` hold for this run alone."""

    units: int | None = None
    threads: int | None = None
    preset: str | None = None
    headless: bool = False
    tray: bool = True
    terminal: bool = False
    debug: bool = False


@dataclass(frozen=True)
class Afterwards:
    """What is to follow an agentd that has ended.

    `version`: a release that was installed takes over. `again`: the program was replaced.
    """

    version: str | None
    again: bool


def run_agentd(home: Home, options: Options, on_ready: Callable[[int], None]) -> Afterwards:
    """Run until stopped; return what is to follow.

    `on_ready` gets the loopback server's port.

    Raises:
        HomeInUseError: another process uses the home.
        PlebError: the home cannot be used.
    """
    home.prepare()
    with home.hold():
        home.start_log(terminal=options.terminal, debug=options.debug)
        agentd = _Agentd(home, options)
        asyncio.run(agentd.run(on_ready))
        return Afterwards(agentd.packages.handed_over, agentd.packages.start_again)


class _LoopListener(Listener):
    """Shows what the loop does to the faces, and its events to the user."""

    def __init__(self, bell: Bell, notices: Notices) -> None:
        self._bell = bell
        self._notices = notices

    def changed(self) -> None:
        """Something that people see is different now."""
        self._bell.ring()

    def happened(self, event: Event) -> None:
        """An event has entered the history."""
        self._notices.consider(event)


class _Agentd:
    """The process: its parts, and what one tells the other."""

    def __init__(self, home: Home, options: Options) -> None:
        self._home = home
        self._options = options
        self._bell = Bell()
        self._journal = Journal(home.journal)
        self._wishes = Wishes(self._journal)
        self._live = LivePreferences(home, self._for_this_run)
        self.packages = Packages(home, self._preferences)
        self._engine = WorkerProcess(home.work, worker_settings(self._live.current))
        self._engine.packages = self.packages.runtime_path()
        self._senses = Senses(
            home,
            self._journal,
            self._wishes,
            self._preferences,
            lambda: self._engine.pid,
            headless=options.headless,
        )
        self._network = Network.following(self._preferences)
        self._cache = BlobCache(home.cache, self._live.current.cache_bytes)
        self._notices = Notices(self._preferences, lambda: session_language(os.environ))
        listener = _LoopListener(self._bell, self._notices)
        self._loop = AgentLoop(self._services(), listener, units=options.units)
        self._units = UnitWatch(self._loop, self._bell, self._live)
        self._tray = TrayKeeper(home)
        self._sessions = Sessions(
            read_secret(home.page_secret, SECRET_BYTES), system_clock, secrets.token_bytes
        )
        self._token = secrets.token_urlsafe(_DRAWN_BYTES)
        self._server = LocalServer(
            web_app(self._steering(), self._token, self._sessions), self._known_port()
        )
        self._connect()

    async def run(self, on_ready: Callable[[int], None]) -> None:
        """Run everything until the loop ends."""
        self._listen_to_signals()
        serving = asyncio.create_task(self._server.run())
        beside = [asyncio.create_task(one) for one in self._companions()]
        self._write_control_file()
        try:
            _LOG.info("start", extra={"pid": os.getpid(), "port": self._server.port})
            self._loop.note(EventKind.START, say("The agent started."))
            on_ready(self._server.port)
            await self._run_loop(beside)
        finally:
            self._home.control.unlink(missing_ok=True)
            self._bell.close()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self.packages.close()
            self._server.stop()
            await serving
            self._loop.note(EventKind.END, say("The agent ended."))
            self._journal.close()
            _LOG.info("stop", extra={"units_finished": self._loop.status.units_finished})

    async def _run_loop(self, beside: list[asyncio.Task[None]]) -> None:
        """Run the loop; a companion that fails is a defect, and ends the process."""
        looping = asyncio.create_task(self._loop.run())
        watched = {looping, *beside}
        try:
            while not looping.done():
                done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            looping.cancel()
            await asyncio.gather(looping, return_exceptions=True)

    # -- building ---------------------------------------------------------------------------

    def _preferences(self) -> Preferences:
        return self._live.current

    def _for_this_run(self, preferences: Preferences) -> Preferences:
        options = self._options
        if options.preset is not None:
            preferences = with_preset(preferences, options.preset, read_machine().cores)
        if options.threads is not None:
            preferences = msgspec.structs.replace(preferences, threads=options.threads)
        return preferences

    def _services(self) -> Services:
        return Services(
            journal=self._journal,
            cache=self._cache,
            keys=KeyStore(self._home.keys),
            engine=self._engine,
            preferences=self._preferences,
            read=self._senses.read,
            make_client=lambda link: client_for(link, self._network),
            work_dir=self._home.work,
            clock=system_clock,
            draw=system_draw,
        )

    def _steering(self) -> Steering:
        joining = attaching(self._home, self._journal, self._network)
        looking = Looking(
            journal=self._journal,
            loop=self._loop,
            wishes=self._wishes,
            live=self._live,
            attaching=joining,
            shower=Shower(self._journal, KeyStore(self._home.keys)),
            senses=self._senses,
            packages=self.packages,
            desktop=not self._options.headless,
        )
        return Steering(
            home=self._home,
            journal=self._journal,
            loop=self._loop,
            wishes=self._wishes,
            live=self._live,
            attaching=joining,
            looking=looking,
            bell=self._bell,
            session=SessionStart(self._home, os.environ, headless=self._options.headless),
            sessions=self._sessions,
            packages=self.packages,
            port=lambda: self._server.port,
        )

    def _connect(self) -> None:
        """Let each part tell the others."""
        self._senses.on_change = self._loop.look_again
        self._senses.before_sleep = self._units.until_put_away
        self._live.on_change = self._preferences_changed
        self.packages.on_change = self._bell.ring
        self.packages.on_runtime = self._runtime_arrived
        self.packages.on_release = self._notices.release

    def _companions(self) -> list[Coroutine[None, None, None]]:
        """What runs beside the loop."""
        companions = [self._senses.run(), self._notices.run()]
        companions += [
            self.packages.look_now_and_then(),
            self.packages.watch_own_files(self._loop.stop),
        ]
        system = stays_awake()
        if system is not None:
            companions.append(self._units.keep_awake(KeepAwake(system)))
        if self._senses.presence is None:
            return companions
        companions.append(self._units.watch_closely(self._senses.presence))
        address = display_address(os.environ)
        if address is not None:
            watch = SessionWatch(address, lambda: self._senses.read().presence, self._loop.stop)
            companions.append(watch.run())
        if self._options.tray:
            companions.append(self._tray.run())
        return companions

    # -- what one tells the other -----------------------------------------------------------

    def _preferences_changed(self, before: Preferences, after: Preferences) -> None:
        self._cache.quota_bytes = after.cache_bytes
        settings = worker_settings(after)
        if settings != worker_settings(before):
            self._engine.settings = settings
            self._loop.renew_engine()
        self._senses.look_now()

    def _runtime_arrived(self) -> None:
        self._engine.packages = self.packages.runtime_path()
        self._loop.renew_engine()
        self._loop.changed()

    # -- the process ------------------------------------------------------------------------

    def _known_port(self) -> int:
        """The port of the last time, so that an open page finds us again."""
        text = self._journal.setting(_PORT)
        return int(text) if text.isdecimal() else 0

    def _write_control_file(self) -> None:
        self._journal.set_setting(_PORT, str(self._server.port))
        text = msgspec.json.encode(
            {"pid": os.getpid(), "port": self._server.port, "token": self._token}
        )
        write_durably(self._home.control, text, private=True)

    def _listen_to_signals(self) -> None:
        """End well when told to, and when the terminal or the session ends."""
        loop = asyncio.get_running_loop()
        names = (
            ("SIGTERM", "SIGINT") if sys.platform == "win32" else ("SIGTERM", "SIGINT", "SIGHUP")
        )
        for name in names:
            with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
                loop.add_signal_handler(getattr(signal, name), self._loop.stop)
