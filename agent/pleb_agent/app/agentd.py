"""agentd's composition root: builds every part by hand, runs the loop and the loopback server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.app.bell import Bell
from pleb_agent.app.clock import local_time, system_clock, system_draw
from pleb_agent.app.live_preferences import LivePreferences
from pleb_agent.app.lock import hold_lock
from pleb_agent.app.logs import start_log
from pleb_agent.app.steering import Steering
from pleb_agent.app.view import Shower
from pleb_agent.app.wishes import Wishes
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.core.readings import Readings
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.keys import KeyStore
from pleb_agent.loop.agent_loop import AgentLoop
from pleb_agent.loop.attach import Attaching
from pleb_agent.loop.parts import Parts
from pleb_agent.sensors.machine import free_disk_bytes, read_machine
from pleb_agent.web.app import web_app
from pleb_agent.web.server import LocalServer
from pleb_agent.worker.job import WorkerSettings
from pleb_agent.worker.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.app.home import Home
    from pleb_agent.core.preferences import Preferences
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["Options", "attaching", "client_for", "run_agentd"]

_LOG: Final = logging.getLogger("pleb.agent")


@dataclass(frozen=True)
class Options:
    """How this process was started."""

    units: int | None = None
    threads: int | None = None
    headless: bool = False
    terminal: bool = False
    debug: bool = False


def run_agentd(home: Home, options: Options, on_ready: Callable[[int], None]) -> None:
    """Run until stopped. `on_ready` gets the loopback server's port.

    Raises:
        HomeInUseError: another process uses the home.
        PlebError: the home cannot be used.
    """
    home.prepare()
    with hold_lock(home.lock):
        start_log(home.log, terminal=options.terminal, debug=options.debug)
        asyncio.run(_Agentd(home, options).run(on_ready))


def attaching(home: Home, journal: Journal) -> Attaching:
    """Return what attaches projects to this home."""
    return Attaching(journal, KeyStore(home.keys), system_clock, client_for)


def client_for(link: AttachLink) -> CoordinatorClient:
    """Return a client for a link's coordinator."""
    return CoordinatorClient(link.base_url, link.certificate)


class _Agentd:
    """The process."""

    def __init__(self, home: Home, options: Options) -> None:
        self._home = home
        self._options = options
        self._journal = Journal(home.journal)
        self._wishes = Wishes(self._journal)
        self._bell = Bell()
        self._preferences = LivePreferences(home, self._for_this_run)
        self._loop = AgentLoop(self._parts(), units=options.units)
        self._loop.status.on_change = self._bell.ring
        self._token = secrets.token_urlsafe(32)
        self._server = LocalServer(web_app(self._steering(), self._token))

    async def run(self, on_ready: Callable[[int], None]) -> None:
        """Run the loop and the server until the loop ends."""
        self._listen_to_signals()
        serving = asyncio.create_task(self._server.run())
        self._write_control_file()
        try:
            _LOG.info("start", extra={"pid": os.getpid(), "port": self._server.port})
            on_ready(self._server.port)
            await self._loop.run()
        finally:
            self._home.control.unlink(missing_ok=True)
            self._bell.close()
            self._server.stop()
            await serving
            self._journal.close()
            _LOG.info("stop", extra={"units_finished": self._loop.status.units_finished})

    # -- building ---------------------------------------------------------------------------

    def _for_this_run(self, preferences: Preferences) -> Preferences:
        if self._options.threads is None:
            return preferences
        return msgspec.structs.replace(preferences, threads=self._options.threads)

    def _parts(self) -> Parts:
        home, preferences = self._home, self._preferences.current
        return Parts(
            journal=self._journal,
            cache=BlobCache(home.cache, preferences.cache_bytes),
            keys=KeyStore(home.keys),
            engine=WorkerProcess(home.work, _worker_settings(preferences)),
            preferences=lambda: self._preferences.current,
            read=self._read,
            make_client=client_for,
            work_dir=home.work,
            clock=system_clock,
            draw=system_draw,
        )

    def _steering(self) -> Steering:
        return Steering(
            home=self._home,
            journal=self._journal,
            loop=self._loop,
            wishes=self._wishes,
            preferences=self._preferences,
            attaching=attaching(self._home, self._journal),
            shower=Shower(self._journal, KeyStore(self._home.keys)),
            bell=self._bell,
            desktop=not self._options.headless,
        )

    def _read(self) -> Readings:
        now = system_clock()
        return Readings(
            now=now,
            local_time=local_time(now),
            wish=self._wishes.current,
            free_disk_bytes=free_disk_bytes(self._home.path),
        )

    def _write_control_file(self) -> None:
        beside = self._home.control.with_suffix(".part")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"pid": os.getpid(), "port": self._server.port, "token": self._token}, file)
        beside.replace(self._home.control)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
                loop.add_signal_handler(number, self._loop.stop)


def _worker_settings(preferences: Preferences) -> WorkerSettings:
    return WorkerSettings(
        threads=preferences.threads,
        memory_bytes=preferences.memory_bytes_idle or read_machine().memory_bytes // 2,
        low_priority=preferences.nice,
    )
