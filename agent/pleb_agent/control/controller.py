"""What the faces (page, tray, command line) can make agentd do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.control.journal_reader import find_all_attached, find_attached
from pleb_agent.control.live_rules import rules_of
from pleb_agent.control.receipt_reader import verify_projects
from pleb_agent.control.views import (
    AutostartView,
    HookTokenView,
    LinkView,
    ReaderView,
    SignalValueView,
)
from pleb_agent.core.history import EventKind
from pleb_agent.core.preference_table import changed, changes_between
from pleb_agent.core.presets import with_preset
from pleb_agent.core.schedule import parse_hours
from pleb_agent.core.sentence import say
from pleb_agent.core.signals import HOURS_PREFIX, Source
from pleb_agent.desktop.entries import session_entries
from pleb_agent.program.clock import local_time, system_clock, tomorrow_morning
from pleb_shared.errors import InputError
from pleb_shared.protocol.sealing import write_reading
from pleb_shared.protocol.shown import shown_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pleb_agent.control import requests
    from pleb_agent.control.live_preferences import LivePreferences
    from pleb_agent.control.notifier import ChangeNotifier
    from pleb_agent.control.overrides import Overrides
    from pleb_agent.control.own_data import OwnDataControl
    from pleb_agent.control.packages import Packages
    from pleb_agent.control.reports import Reports
    from pleb_agent.control.status_reader import StatusReader
    from pleb_agent.control.views import (
        AllVerifiedView,
        HabitsView,
        OwnDataView,
        PreferencesView,
        ProjectView,
        RulesView,
        StatusView,
    )
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.journal.journal import Journal
    from pleb_agent.loop.attach import Attaching
    from pleb_agent.loop.side_by_side import SideBySide

__all__ = ["Autostart", "Controller"]

_READ_SECONDS: Final = 5.0
"""How long "read now" waits for a message of MQTT."""


class Autostart:
    """The agent's entries in the session, for one home."""

    def __init__(self, home: Path, environment: Mapping[str, str], *, headless: bool) -> None:
        self._entries = session_entries(home, environment, headless=headless)
        # An earlier start may have made the entries of the other kind, with a desktop or without.
        self._others = session_entries(home, environment, headless=not headless)

    def view(self) -> AutostartView:
        """Return whether the agent starts with the session, and how."""
        on, sentence = self._entries.state()
        others_on, others_sentence = self._others.state()
        if others_on and not on:
            on, sentence = others_on, others_sentence
        return AutostartView(on=on, sentence=sentence)

    def turn(self, *, on: bool) -> AutostartView:
        """Make the entries, or remove them, also those of the other kind.

        Raises:
            InputError: the session's folders cannot be written.
        """
        try:
            if on:
                self._entries.make()
            else:
                self._entries.remove()
                self._others.remove()
        except OSError as error:
            raise InputError(
                f"The session's settings cannot be changed ({error}): check the permissions of "
                "your configuration folder."
            ) from error
        return self.view()


@dataclass(frozen=True)
class Controller:
    """Changes what agentd does. `reader` shows it.

    Every method may raise a `PlebError`, whose sentence says what to do; nothing has changed then.
    """

    reader: StatusReader
    journal: Journal
    loop: SideBySide
    overrides: Overrides
    live: LivePreferences
    attaching: Attaching
    notifier: ChangeNotifier
    autostart: Autostart
    packages: Packages
    reports: Reports
    own_data: OwnDataControl

    async def attach(self, request: requests.AttachRequest) -> ProjectView:
        """Attach a project with its family; return it."""
        row = await self.attaching.attach(
            request.link, invite=request.invite, name=request.name, only=request.only
        )
        self._changed()
        return self.reader.project(row)

    async def detach(self, request: requests.ProjectRequest) -> ProjectView:
        """Leave a project, or all of a family, and give its units back; return what it was."""
        rows = find_all_attached(self.journal, request.project)
        view = self.reader.project(rows[0])
        for row in rows:
            self.journal.mark_detaching(row.id)
        for row in rows:
            await self.loop.leave(row.id)
        self.notifier.notify()
        return view

    async def verify(self, request: requests.VerifyRequest) -> AllVerifiedView:
        """Look for this PC's accepted units in the signed logs; return what was found."""
        return await verify_projects(self.attaching, request)

    def account_link(self, request: requests.ProjectRequest) -> LinkView:
        """Return the text that adds another PC to the account."""
        row, *_ = find_all_attached(self.journal, request.project)
        return LinkView(
            text=self.attaching.account_link(row),
            sentence=(
                "Attach your other PC with this text. It is a secret, like a password: anyone who "
                "has it can act as you in this project."
            ),
        )

    def reader_of(self, request: requests.ProjectRequest) -> ReaderView:
        """Return by what this PC reads a private project, for `pleb-project export` and a browser.

        Raises:
            InputError: the project is public.
        """
        row = find_attached(self.journal, request.project)
        reading = self.attaching.reading(row)
        return ReaderView(
            project=row.name,
            page=f"{row.base_url}/projects/{row.name}#reader={reading.reader}",
            link=row.link,
            reading=write_reading(reading).decode(),
        )

    def pause(self, request: requests.PauseRequest) -> StatusView:
        """Pause until a time, or until resumed; the whole PC, or some of its devices."""
        now = system_clock()
        devices = self.reader.devices_named(request.devices)
        if request.until_tomorrow:
            until: float | None = tomorrow_morning(now)
        else:
            until = None if request.seconds is None else now + request.seconds
        self.overrides.pause(until, devices)
        return self._changed()

    def pause_by_hook(self, request: requests.HookPauseRequest) -> StatusView:
        """Pause because another program of the user's asks for it."""
        until = None if request.seconds is None else system_clock() + request.seconds
        self.overrides.pause_by_hook(until, shown_line(request.reason))
        return self._changed()

    def resume_by_hook(self) -> StatusView:
        """End the pause that another program asked for."""
        self.overrides.resume_by_hook()
        return self._changed()

    def set_rules(self, request: requests.RulesRequest) -> RulesView:
        """Replace the rules on signals.

        Raises:
            InputError: they are not understood.
        """
        before, after = self.reader.rules.current, rules_of(request.rules)
        self.reader.rules.replace(after)
        if before != after:
            sentence = say("You changed the rules on signals.")
            self.loop.note(EventKind.PREFERENCES, sentence)
        self._changed()
        return self.reader.signal_rules()

    async def read_signal(self, request: requests.ReadSignalRequest) -> SignalValueView:
        """Read a signal now.

        Raises:
            InputError: it is not understood, or has no address of its own.
            SignalError: it has no number.
        """
        from pleb_agent.signals.watch import look_once

        (signal,) = rules_of({"signals": [request.signal]}).signals
        now = system_clock()
        time = local_time(now)
        if signal.source is Source.HOURS:
            hours = parse_hours(signal.address.removeprefix(HOURS_PREFIX))
            return SignalValueView(value=float(hours.allow(time)))
        value = await asyncio.to_thread(
            look_once,
            signal,
            proxy=self.live.current.proxy,
            now=now,
            hour=time.minute // 60,
            seconds=_READ_SECONDS,
        )
        return SignalValueView(value=value)

    def create_hook(self, request: requests.HookRequest) -> HookTokenView:
        """Make a token with which another program may pause the agent."""
        return HookTokenView(
            name=request.name.strip(), token=self.reader.hooks.create(request.name)
        )

    def revoke_hook(self, request: requests.HookRequest) -> RulesView:
        """End such a token."""
        self.reader.hooks.revoke(request.name)
        return self.reader.signal_rules()

    def boost(self, request: requests.BoostRequest) -> StatusView:
        """Run now, even while the PC is in use."""
        self.overrides.boost(system_clock() + request.seconds)
        return self._changed()

    def resume(self, request: requests.ResumeRequest) -> StatusView:
        """End a pause or a boost; or the pauses of some devices."""
        self.overrides.resume(self.reader.devices_named(request.devices))
        return self._changed()

    def finish(self, _: requests.FinishRequest) -> StatusView:
        """Take no new work; pause when what is in hand is done."""
        self.overrides.finish()
        return self._changed()

    def set_new_work(self, request: requests.NewWorkRequest) -> StatusView:
        """Take no further units of one project or family, or of all, or take them again."""
        rows = (
            find_all_attached(self.journal, request.project)
            if request.project
            else self.journal.projects()
        )
        for row in rows:
            self.journal.set_no_new_work(row.id, on=not request.allow)
        return self._changed()

    async def choose_data(self, request: requests.OwnDataRequest) -> OwnDataView:
        """Show, choose or forget the folder with the user's own data for a project.

        Raises:
            InputError: the project trains on no such data, or cannot read what is in the folder.
        """
        if not request.folder and not request.forget:
            return self.own_data.show(request.project)
        if request.forget:
            view = self.own_data.forget(request.project)
        else:
            view = await self.own_data.choose(request.project, request.folder)
        self._changed()
        return view

    def forget_habits(self, _: requests.ForgetHabitsRequest) -> HabitsView:
        """Learn habits only from what happens from now on."""
        self.journal.forget_habits(system_clock())
        return self.reader.habits()

    def try_now(self) -> StatusView:
        """Ask the coordinators again now, whenever the next look was due."""
        return self._changed()

    async def act_on_unit(self, request: requests.UnitRequest) -> StatusView:
        """Pause a unit that is in hand, resume it, or hand it back.

        Raises:
            InputError: it is not to be computed any more.
        """
        if not self.journal.hold_unit(request.id, request.act.held):
            raise InputError(
                f"Unit {request.id} is not in hand: `pleb-agent units` lists those that are."
            )
        await self.loop.unit_held(request.id)
        self.notifier.notify()
        return self.reader.status()

    def stop(self, request: requests.StopRequest) -> StatusView:
        """Stop the agent, at once or after the current unit."""
        self.loop.stop(finish=request.finish)
        return self.reader.status()

    def set_preferences(self, request: requests.PreferencesRequest) -> PreferencesView:
        """Change preferences: all of the changes, or none if one is wrong.

        Raises:
            PreferenceError: there is no such preference, or its value is refused.
            InputError: the share of a project that is not attached.
        """
        for name, value in request.changes.items():
            field, _, project = name.partition(".")
            if field == "shares" and project and value not in {None, "none"}:
                find_all_attached(self.journal, project)
        return self._prefer(lambda old: changed(old, request.changes))

    def apply_preset(self, request: requests.PresetRequest) -> PreferencesView:
        """Apply a preset; preferences that it does not name keep their values."""
        cores = self.reader.machine().cores
        return self._prefer(lambda old: with_preset(old, request.name, cores))

    def set_autostart(self, request: requests.AutostartRequest) -> AutostartView:
        """Start with the session, or not."""
        return self.autostart.turn(on=request.on)

    def fetch_runtime(self, request: requests.RuntimeRequest) -> StatusView:
        """Begin to download a torch runtime; the status shows the progress."""
        self.packages.begin_runtime(request.kind)
        return self.reader.status()

    async def install_update(self) -> StatusView:
        """Install the newer release of a self-updating archive, then restart into it."""
        await self.packages.install_update()
        self.loop.stop()
        return self.reader.status()

    def close_welcome(self) -> StatusView:
        """Remember that the user has seen the welcome to its end."""
        self.journal.set_setting("welcome_closed", "yes")
        self.notifier.notify()
        return self.reader.status()

    def _changed(self) -> StatusView:
        self.loop.changed()
        self.notifier.notify()
        return self.reader.status()

    def _prefer(self, change: Callable[[Preferences], Preferences]) -> PreferencesView:
        before = self.live.current
        what = changes_between(before, self.live.change(change))
        if what is not None:
            self.loop.note(EventKind.PREFERENCES, what)
        self._changed()
        return self.reader.preferences()
