"""agentd's composition root: builds every part by hand, runs the loop and the control API."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.app.clock import system_clock, system_draw
from pleb_agent.web.control import AttachWish, DetachWish, PauseWish, StopWish, control_app
from pleb_agent.app.lock import hold_lock
from pleb_agent.app.logs import start_log
from pleb_agent.web.server import LocalServer
from pleb_agent.app.settings import read_preferences
from pleb_agent.app.view import status_view
from pleb_agent.app.wishes import Wishes
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.core.readings import Readings
from pleb_agent.core.wish import WishKind
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.keys import KeyStore
from pleb_agent.loop.agent_loop import AgentLoop
from pleb_agent.loop.attach import Attaching
from pleb_agent.loop.parts import Parts
from pleb_agent.sensors.machine import free_disk_bytes, read_machine
from pleb_agent.worker.job import WorkerSettings
from pleb_agent.worker.process import WorkerProcess
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.app.home import Home
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.journal.rows import ProjectRow
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["Options", "attaching", "find_attached", "run_agentd"]

_LOG: Final = logging.getLogger("pleb.agent")


@dataclass(frozen=True)
class Options:
    """How this process was started."""

    units: int | None = None
    threads: int | None = None
    terminal: bool = False
    debug: bool = False


def run_agentd(home: Home, options: Options, on_ready: Callable[[int], None]) -> None:
    """Run until stopped. `on_ready` gets the control API's port.

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


class _Agentd:
    """The process: implements `control.Control`."""

    def __init__(self, home: Home, options: Options) -> None:
        self._home = home
        self._journal = Journal(home.journal)
        self._wishes = Wishes(self._journal)
        preferences = read_preferences(home)
        threads = options.threads or preferences.threads
        self._loop = AgentLoop(self._parts(preferences, threads), units=options.units)
        self._token = secrets.token_urlsafe(32)
        self._server = LocalServer(control_app(self, self._token, lambda: self._server.port))

    async def run(self, on_ready: Callable[[int], None]) -> None:
        """Run the loop and the API until the loop ends."""
        self._listen_to_signals()
        serving = asyncio.create_task(self._server.run())
        self._write_control_file()
        try:
            _LOG.info("start", extra={"pid": os.getpid(), "port": self._server.port})
            on_ready(self._server.port)
            await self._loop.run()
        finally:
            self._home.control.unlink(missing_ok=True)
            self._server.stop()
            await serving
            self._journal.close()
            _LOG.info("stop", extra={"units_finished": self._loop.status.units_finished})

    # -- control ----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what the agent does."""
        view = status_view(
            self._journal, self._loop.state(), self._loop.status, self._loop.problems()
        )
        return view | {"pid": os.getpid(), "paused": self._wishes.current.holds(WishKind.PAUSE, system_clock())}

    async def attach(self, wish: AttachWish) -> dict[str, Any]:
        """Attach a project; return it."""
        row = await attaching(self._home, self._journal).attach(
            wish.link, invite=wish.invite, name=wish.name
        )
        self._loop.changed()
        return {"project": row.name, "url": row.base_url, "host": row.host, "role": row.role}

    async def detach(self, wish: DetachWish) -> dict[str, Any]:
        """Leave a project; what is in hand is given back."""
        row = find_attached(self._journal, wish.project)
        self._journal.mark_detaching(row.id)
        await self._loop.leave(row.id)
        return {"project": row.name}

    async def pause(self, wish: PauseWish) -> dict[str, Any]:
        """Pause."""
        until = None if wish.seconds is None else system_clock() + wish.seconds
        self._wishes.pause(until)
        self._loop.changed()
        return {"paused": True, "until": until}

    async def resume(self) -> dict[str, Any]:
        """Go on."""
        self._wishes.resume()
        self._loop.changed()
        return {"paused": False}

    async def stop(self, wish: StopWish) -> dict[str, Any]:
        """End."""
        self._loop.stop(finish=wish.finish)
        return {"stopping": True, "finish": wish.finish}

    # -- inside -----------------------------------------------------------------------------

    def _parts(self, preferences: Preferences, threads: int) -> Parts:
        home = self._home
        machine = read_machine()
        settings = WorkerSettings(
            threads=threads,
            memory_bytes=preferences.memory_bytes_idle or machine.memory_bytes // 2,
            low_priority=preferences.nice,
        )
        return Parts(
            journal=self._journal,
            cache=BlobCache(home.cache, preferences.cache_bytes),
            keys=KeyStore(home.keys),
            engine=WorkerProcess(home.work, settings),
            preferences=lambda: preferences,
            read=self._read,
            make_client=client_for,
            work_dir=home.work,
            clock=system_clock,
            draw=system_draw,
        )

    def _read(self) -> Readings:
        return Readings(
            now=system_clock(),
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
