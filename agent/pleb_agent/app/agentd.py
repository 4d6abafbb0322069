"""agentd's composition root: builds every component and runs them until the loop ends."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.app.companions import UnitWatch, UserNotifier, keep_tray, watch_clock, watch_session
from pleb_agent.app.readings_source import Chosen, ReadingsSource
from pleb_agent.blobs.standing import Standings
from pleb_agent.cache.blob_cache import BlobCache
from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.client.network import Network
from pleb_agent.control.controller import Autostart, Controller
from pleb_agent.control.hooks import Hooks
from pleb_agent.control.household_control import HouseholdControl
from pleb_agent.control.journal_reader import JournalReader, message_of
from pleb_agent.control.live_preferences import LivePreferences, worker_settings
from pleb_agent.control.live_rules import LiveRules
from pleb_agent.control.notifier import ChangeNotifier
from pleb_agent.control.overrides import Overrides
from pleb_agent.control.own_data import OwnDataControl
from pleb_agent.control.packages import Packages
from pleb_agent.control.reports import Reports
from pleb_agent.control.status_reader import StatusReader
from pleb_agent.control.views import InternetView, SharingView
from pleb_agent.core.devices import CPU
from pleb_agent.core.history import EventKind
from pleb_agent.core.network_rules import reached_sentence
from pleb_agent.core.preference_table import changed
from pleb_agent.core.presets import with_preset
from pleb_agent.core.sentence import say
from pleb_agent.core.unit_parts import Held
from pleb_agent.desktop.display import display_address
from pleb_agent.journal.journal import Journal
from pleb_agent.journal.keys import KeyStore
from pleb_agent.lan.household import Household
from pleb_agent.lan.internet import InternetSharing
from pleb_agent.lan.sharing import LanSharing
from pleb_agent.loop.attach import Attaching
from pleb_agent.loop.files import clean_work_dir
from pleb_agent.loop.services import Listener, Services
from pleb_agent.loop.side_by_side import SideBySide
from pleb_agent.own_data.store import clean_own
from pleb_agent.program.clock import system_clock, system_draw
from pleb_agent.program.command import module_command
from pleb_agent.sensors.devices import Workers, find_cards
from pleb_agent.sensors.energy_meter import (
    CardMeter,
    FirstThatMeasures,
    PlugMeter,
    ProcessorMeter,
)
from pleb_agent.sensors.keep_awake import KeepAwake, stays_awake
from pleb_agent.sensors.machine import read_machine
from pleb_agent.tray.words import session_language
from pleb_agent.web.guard import SECRET_BYTES, BrowserLogins
from pleb_agent.web.server import LocalServer, web_app
from pleb_agent.worker.process import WorkerProcess
from pleb_system.durable import write_durably
from pleb_system.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pleb_agent.app.home import Home
    from pleb_agent.core.history import Event
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.sensors.energy_meter import EnergyMeter
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["Afterwards", "Options", "run_agentd"]

_LOG: Final = logging.getLogger("pleb.agent")
_PORT: Final = "port"
_DRAWN_BYTES: Final = 32
_PEER_BYTES: Final = 8


@dataclass(frozen=True)
class Options:
    """How this process was started. What changes preferences holds for this run alone."""

    units: int | None = None
    threads: int | None = None
    preset: str | None = None
    priority: str = "idle"
    """`low`: the worker has the low priority of all of this agent instead of an idle one."""
    headless: bool = False
    tray: bool = True
    terminal: bool = False
    debug: bool = False


@dataclass(frozen=True)
class Afterwards:
    """What to do after agentd has stopped.

    `version`: start this release, which was installed. `again`: the program was replaced.
    """

    version: str | None
    again: bool


def run_agentd(home: Home, options: Options, on_ready: Callable[[int], None]) -> Afterwards:
    """Run until stopped; return what to do then.

    `on_ready` gets the loopback server's port.

    Raises:
        HomeInUseError: another process uses the home.
        PlebError: the home cannot be used.
    """
    home.prepare()
    with home.hold():
        home.start_log(terminal=options.terminal, debug=options.debug)
        if options.priority == "low":
            from pleb_agent.worker.priority import give_way, low_ways

            give_way(low_ways())  # the worker inherits it
        agentd = _Agentd(home, options)
        asyncio.run(agentd.run(on_ready))
        return Afterwards(agentd.packages.handed_over, agentd.packages.start_again)


class _LoopListener(Listener):
    """Passes what the loop does to the faces, and its events to the user."""

    def __init__(self, notifier: ChangeNotifier, notifications: UserNotifier) -> None:
        self._notifier = notifier
        self._notifications = notifications

    def changed(self) -> None:
        """Wake the faces."""
        self._notifier.notify()

    def happened(self, event: Event) -> None:
        """Show a notification, if the user wants that."""
        self._notifications.consider(event)


class _Agentd:
    """The process: its components, and how they call one another."""

    def __init__(self, home: Home, options: Options) -> None:
        self._home = home
        self._options = options
        self._notifier = ChangeNotifier()
        self._journal = Journal(home.journal)
        self._overrides = Overrides(self._journal)
        self._live = LivePreferences(home.preferences, self._for_this_run)
        self._live.on_change = self._preferences_changed
        self._rules = LiveRules(home.rules)
        self._rules.on_change = self._rules_changed
        self._hooks = Hooks(self._journal, system_clock, secrets.token_bytes)
        self._notifications = UserNotifier(self._preferences, lambda: session_language(os.environ))
        self._cards = find_cards()
        self.packages = Packages(
            home.runtimes,
            home.updates,
            self._preferences,
            cards=[card.name for card in self._cards],
            on_change=self._notifier.notify,
            on_runtime=self._runtime_arrived,
            on_release=self._notifications.release,
        )
        settings = worker_settings(self._live.current)
        self._engines = {CPU: WorkerProcess(home.work, settings)}
        for card in self._cards:
            self._engines[card.name] = WorkerProcess(home.work_on(card.name), settings, card)
        for device, engine in self._engines.items():
            engine.packages = self.packages.runtime_path(device)
        clean_own(home.work, {row.id for row in self._journal.hosts()})
        for folder in home.work_of_others(self._engines):  # shards may lie there in the clear
            clean_work_dir(folder, self._journal)
        self._readings = ReadingsSource(
            home.path,
            self._journal,
            Chosen(self._preferences, self._overrides, lambda: self._rules.current),
            Workers(self._cards, self._pid_of),
            headless=options.headless,
            on_change=self._readings_changed,
            before_sleep=lambda: self._units.until_checkpoint(),  # noqa: PLW0108 - likewise
        )
        self._network = Network.following(self._preferences)
        self._cache = BlobCache(home.cache, self._live.current.cache_bytes)
        self._standings = Standings()
        peer = secrets.token_bytes(_PEER_BYTES)
        self._household = Household(home.household, peer.hex(), system_clock)
        self._lan = LanSharing(
            peer,
            self._network,
            self._standings,
            self._preferences,
            self._readings.read,
            system_clock,
            self._household,
        )
        self._internet = InternetSharing(
            peer,
            self._network,
            self._standings,
            self._preferences,
            self._readings.read,
            system_clock,
        )
        self._household.on_change = self._lan.look_again
        listener = _LoopListener(self._notifier, self._notifications)
        services = [self._services(device) for device in self._engines]
        self._loop = SideBySide(services, listener, units=options.units)
        self._units = UnitWatch(self._loop, self._notifier, self._live)
        self._token = secrets.token_urlsafe(_DRAWN_BYTES)
        logins = BrowserLogins(_page_secret(home.page_secret), system_clock, secrets.token_bytes)
        controller = self._controller()
        household = HouseholdControl(self._household, self._lan, self._network, controller)
        self._household.answer = household.answer
        app = web_app(controller, self._token, logins, household)
        # The port of the last time, so that an open page finds us again.
        known = self._journal.setting(_PORT)
        self._server = LocalServer(app, int(known) if known.isdecimal() else 0)

    async def run(self, on_ready: Callable[[int], None]) -> None:
        """Run everything until the loop ends."""
        self._listen_to_signals()
        serving = asyncio.create_task(self._server.run())
        companions = [asyncio.create_task(one) for one in self._companions()]
        self._write_control_file()
        try:
            _LOG.info("start", extra={"pid": os.getpid(), "port": self._server.port})
            self._note_lost_journal()
            self._loop.note(EventKind.START, say("The agent started."))
            on_ready(self._server.port)
            await self._run_loop(companions)
        finally:
            self._home.control.unlink(missing_ok=True)
            self._notifier.close()
            for task in companions:
                task.cancel()
            await asyncio.gather(*companions, return_exceptions=True)
            await self.packages.close()
            self._server.stop()
            await serving
            self._loop.note(EventKind.END, say("The agent stopped."))
            self._journal.close()
            _LOG.info("stop", extra={"units_finished": self._loop.status.units_finished})

    async def _run_loop(self, companions: list[asyncio.Task[None]]) -> None:
        """Run the loop; a companion that fails is a defect, and ends the process."""
        looping = asyncio.create_task(self._loop.run())
        watched = {looping, *companions}
        try:
            while not looping.done():
                done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            looping.cancel()
            await asyncio.gather(looping, return_exceptions=True)

    def _note_lost_journal(self) -> None:
        """Say that projects were forgotten, where their keys are here and the journal is new."""
        if not self._journal.events(None, 1) and KeyStore(self._home.keys).has_accounts():
            sentence = say(
                "The journal is new, but there are keys of projects: attach those that you had "
                "attached by the same links, and their accounts go on."
            )
            self._loop.note(EventKind.PROBLEM, sentence)

    def _has_work(self) -> bool:
        """Whether there is a unit in hand that is to be finished; paused ones are not."""
        return any(row.held is not Held.PAUSED for row in self._journal.open_assignments())

    def _pid_of(self, device: str) -> int | None:
        return self._engines[device].pid if device in self._engines else None

    def _preferences(self) -> Preferences:
        return self._live.current

    def _for_this_run(self, preferences: Preferences) -> Preferences:
        options = self._options
        if options.preset is not None:
            preferences = with_preset(preferences, options.preset, read_machine().cores)
        if options.threads is not None:
            preferences = changed(preferences, {"threads": options.threads})
        if options.priority == "low":
            preferences = msgspec.structs.replace(preferences, nice=False)
        return preferences

    def _client(self, link: AttachLink) -> CoordinatorClient:
        return CoordinatorClient.for_link(link, self._network)

    def _meter(self, device: str) -> EnergyMeter | None:
        """Return what measures a device; None: nothing does."""
        if device == CPU:
            return FirstThatMeasures(PlugMeter(self._plug_watts), ProcessorMeter())
        return CardMeter.of(device)

    def _plug_watts(self) -> float | None:
        """Return what the user's own meter says, if it is of the processor's work alone."""
        preferences = self._preferences()
        if not preferences.watt_meter or preferences.use_gpu:
            return None
        signal = self._rules.current.find(preferences.watt_meter)
        found = self._readings.signals.latest.get(preferences.watt_meter)
        if signal is None or found is None:
            return None
        return found.value_at(signal, system_clock())

    def _services(self, device: str) -> Services:
        return Services(
            journal=self._journal,
            cache=self._cache,
            keys=KeyStore(self._home.keys),
            engine=self._engines[device],
            preferences=self._preferences,
            read=self._readings.read,
            make_client=self._client,
            work_dir=self._home.work if device == CPU else self._home.work_on(device),
            device=device,
            meter=self._meter(device),
            clock=system_clock,
            draw=system_draw,
            standings=self._standings,
            lan=self._lan,
            internet=self._internet,
            packages=lambda: self._engines[device].packages,
        )

    def _controller(self) -> Controller:
        keys = KeyStore(self._home.keys)
        attaching = Attaching(self._journal, keys, system_clock, self._client)
        reader = StatusReader(
            journal=self._journal,
            rows=JournalReader(self._journal, keys),
            loop=self._loop,
            overrides=self._overrides,
            live=self._live,
            attaching=attaching,
            readings=self._readings.read,
            packages=self.packages,
            notifier=self._notifier,
            log_file=self._home.log,
            desktop=not self._options.headless,
            cards=self._cards,
            rules=self._rules,
            signal_history=lambda: self._readings.signals.history,
            hooks=self._hooks,
            sharing=self._sharing,
        )
        return Controller(
            reader=reader,
            journal=self._journal,
            loop=self._loop,
            overrides=self._overrides,
            live=self._live,
            attaching=attaching,
            notifier=self._notifier,
            autostart=Autostart(self._home.path, os.environ, headless=self._options.headless),
            packages=self.packages,
            reports=Reports(self._home.path, self._home.log),
            own_data=OwnDataControl(
                self._journal, keys, self._home.work, lambda: self._engines[CPU].packages
            ),
        )

    def _sharing(self) -> SharingView | None:
        internet = self._internet
        if not self._lan.port and not internet.port:
            return None
        beyond = None
        if internet.port:
            message = message_of(reached_sentence(internet.port, internet.reached))
            beyond = InternetView(
                others=internet.neighbours, sent_bytes=internet.sent_bytes, message=message
            )
        return SharingView(
            neighbours=self._lan.neighbours, sent_bytes=self._lan.sent_bytes, internet=beyond
        )

    def _companions(self) -> list[Coroutine[None, None, None]]:
        """Return what runs next to the loop."""
        companions = [
            self._readings.run(),
            self._notifications.run(),
            self._units.finish_then_pause(self._overrides, self._has_work),
            self.packages.check_regularly(),
            self._lan.run(),
            self._internet.run(),
            self.packages.watch_own_files(self._loop.stop),
            watch_clock(self._loop.changed, system_clock, time.monotonic),
        ]
        system = stays_awake()
        if system is not None:
            companions.append(self._units.keep_awake(KeepAwake(system)))
        if self._readings.presence is None:
            return companions
        companions.append(self._units.watch_closely(self._readings.presence))
        address = display_address(os.environ)
        if address is not None:
            companions.append(
                watch_session(address, lambda: self._readings.read().presence, self._loop.stop)
            )
        if self._options.tray:
            tray = module_command("pleb_agent.tray.main")
            companions.append(keep_tray([*tray, "--home", str(self._home.path)]))
        return companions

    def _preferences_changed(self, before: Preferences, after: Preferences) -> None:
        self._cache.quota_bytes = after.cache_bytes
        settings = worker_settings(after)
        if settings != worker_settings(before):
            for engine in self._engines.values():
                engine.settings = settings
            self._loop.renew_engine()
        self._readings.look_now()
        self._lan.look_again()
        self._internet.look_again()

    def _rules_changed(self) -> None:
        self._readings.signals.rules_changed()

    def _readings_changed(self) -> None:
        self._loop.look_again()
        self._lan.look_again()
        self._internet.look_again()

    def _runtime_arrived(self) -> None:
        for device, engine in self._engines.items():
            engine.packages = self.packages.runtime_path(device)
        self._loop.renew_engine()
        self._loop.changed()

    def _write_control_file(self) -> None:
        self._journal.set_setting(_PORT, str(self._server.port))
        text = msgspec.json.encode(
            {"pid": os.getpid(), "port": self._server.port, "token": self._token}
        )
        write_durably(self._home.control, text, private=True)

    def _listen_to_signals(self) -> None:
        """Stop cleanly when asked to, and when the terminal or the session ends."""
        loop = asyncio.get_running_loop()
        names = (
            ("SIGTERM", "SIGINT") if sys.platform == "win32" else ("SIGTERM", "SIGINT", "SIGHUP")
        )
        for name in names:
            with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
                loop.add_signal_handler(getattr(signal, name), self._loop.stop)


def _page_secret(path: Path) -> bytes:
    """Return the secret in a file; a missing or damaged one is replaced."""
    with suppress(OSError):
        kept = read_regular(path, SECRET_BYTES)
        if len(kept) == SECRET_BYTES:
            return kept
    made = secrets.token_bytes(SECRET_BYTES)
    write_durably(path, made, private=True)
    return made
