"""What the faces see: reads the loop, the journal and the sensors, and changes nothing."""

from __future__ import annotations

import json
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.control import views
from pleb_agent.control.journal_reader import find_attached, message_of
from pleb_agent.control.live_preferences import worker_settings
from pleb_agent.control.receipt_reader import read_receipts
from pleb_agent.core.agent_state import Activity
from pleb_agent.core.devices import PROCESSOR
from pleb_agent.core.energy import bytes_per_day, hours_per_day, kwh_per_day
from pleb_agent.core.headline import headline
from pleb_agent.core.history import OUTCOMES
from pleb_agent.core.override import OverrideKind
from pleb_agent.core.presets import PRESETS, preset_of, with_preset
from pleb_agent.core.readings import PowerSource, PresenceKind
from pleb_agent.core.sentence import say
from pleb_agent.core.signal_rules import allows_work, row_states, would_have_worked
from pleb_agent.core.signals import SignalReading
from pleb_agent.core.unit_parts import UnitPart
from pleb_agent.journal.activity_log import local_day
from pleb_agent.journal.history_list import folded_events
from pleb_agent.program.clock import day_before, local_time, system_clock
from pleb_agent.sensors.devices import devices_named
from pleb_agent.sensors.machine import read_machine
from pleb_agent.sensors.worker_meter import WorkerMeter
from pleb_shared.errors import InputError, PlebError
from pleb_shared.protocol.codec import delta_bytes
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.project import elements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from pleb_agent.control.hooks import Hooks
    from pleb_agent.control.journal_reader import JournalReader
    from pleb_agent.control.live_preferences import LivePreferences
    from pleb_agent.control.live_rules import LiveRules
    from pleb_agent.control.notifier import ChangeNotifier
    from pleb_agent.control.overrides import Overrides
    from pleb_agent.control.packages import Packages
    from pleb_agent.core.devices import FoundDevice
    from pleb_agent.core.history import Event
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readiness import Decision
    from pleb_agent.core.readings import Presence, Readings
    from pleb_agent.core.signals import Signal
    from pleb_agent.journal.history_list import HistoryFilter
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.attach import Attaching
    from pleb_agent.loop.side_by_side import SideBySide
    from pleb_agent.sensors.machine import Machine
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["NetworkNotAllowedError", "StatusReader", "presence_sentence"]

_MOST_DAYS: Final = 400
_MOST_EVENTS: Final = 500
_MOST_LOG_LINES: Final = 5000
_CURVE_SECONDS: Final = 60.0
_CURVES_KEPT: Final = 16
_TYPICAL_UNIT_SECONDS: Final = 240.0
"""How long a project's units take on a typical PC, until this one has done some."""


class NetworkNotAllowedError(PlebError):
    """The user's own rules do not allow using the network now."""


@dataclass(frozen=True)
class StatusReader:
    """What a running agentd shows. `desktop`: a session is watched; `log_file`: agentd's log."""

    journal: Journal
    rows: JournalReader
    loop: SideBySide
    overrides: Overrides
    live: LivePreferences
    attaching: Attaching
    readings: Callable[[], Readings]
    packages: Packages
    notifier: ChangeNotifier
    log_file: Path
    desktop: bool
    rules: LiveRules
    signal_history: Callable[[], Mapping[str, Mapping[int, float]]]
    """What is kept of each signal, by slots."""
    hooks: Hooks
    cards: Sequence[FoundDevice] = ()
    """Those of this PC, whether they may compute or not."""
    sharing: Callable[[], views.SharingView | None] = lambda: None
    machine: Callable[[], Machine] = read_machine
    meter: WorkerMeter = field(default_factory=WorkerMeter)
    _curves: dict[int, tuple[float, views.CurveView]] = field(default_factory=dict)

    def status(self) -> views.StatusView:
        """Return what the agent does."""
        state, live = self.loop.state(), self.loop.status
        override = self.overrides.in_force
        problems = self.loop.problems()
        projects = [
            self.rows.project(row, self.live.current, problems.get(row.id, ""))
            for row in self.rows.attached()
        ]
        decision = self.loop.governor.decision
        titles = {one.project: one.title for one in projects}
        about = live.unit.project if live.unit else state.project
        kind = live.unit.kind if live.unit else ""
        few_words = headline(state, decision.reason, kind, titles.get(about, about))
        if state.activity is Activity.IDLE and not projects:
            few_words = say("No project yet")
        is_working = state.activity is Activity.WORKING
        readings = self.readings()
        return views.StatusView(
            running=True,
            activity=state.activity.value,
            sentence=str(state.sentence),
            message=message_of(state.sentence),
            headline=message_of(few_words),
            why=message_of(decision.sentence if is_working else state.why or state.sentence),
            use=self._use(decision, readings),
            next_look_at=state.next_look_at,
            reason=decision.reason.value,
            override=override,
            paused=override.kind is OverrideKind.PAUSE,
            stopping=self.loop.is_stopping,
            unit=live.unit,
            devices=self._devices(readings),
            units_finished=live.units_finished,
            pid=os.getpid(),
            desktop=self.desktop,
            first_run=not self.journal.setting("welcome_closed"),
            projects=projects,
            open=self.rows.open(),
            history=self.rows.ended(),
            update=self.packages.release,
            sharing=self.sharing(),
            runtime=self.packages.runtime_view(),
        )

    def _use(self, decision: Decision, readings: Readings) -> views.UseView | None:
        """Return what the workers take; None: nothing is computed."""
        if self.loop.status.unit is None:
            return None
        pids = [loop.worker_pid for loop in self.loop.loops if loop.worker_pid is not None]
        return views.UseView(
            cores=self.meter.cores(pids),
            memory_bytes=readings.worker_memory_bytes,
            share_percent=decision.limits.share_percent,
        )

    def _devices(self, readings: Readings) -> list[views.DeviceView]:
        """Return what each device does, the processor first; none where it is the only one."""
        titles = {one.name: one.title for one in (PROCESSOR, *self.cards)}
        pauses = dict(self.overrides.device_pauses)
        temperatures = {gpu.device: gpu.celsius for gpu in readings.gpus}
        found = []
        for loop in self.loop.loops if self.cards else ():
            state = loop.state()
            found.append(
                views.DeviceView(
                    name=loop.device,
                    title=titles.get(loop.device, loop.device),
                    activity=state.activity.value,
                    message=message_of(state.sentence),
                    reason=loop.governor.decision.reason.value,
                    share_percent=loop.governor.decision.limits.share_percent,
                    celsius=temperatures.get(loop.device),
                    paused=loop.device in pauses,
                    unit=loop.status.unit,
                    units_finished=loop.status.units_finished,
                )
            )
        return found

    def devices_named(self, names: Sequence[str]) -> list[str]:
        """Return the devices of this PC that are meant.

        Raises:
            InputError: as `sensors.devices.devices_named`.
        """
        return devices_named(names, self.cards)

    def changes(self) -> AsyncIterator[views.StatusView]:
        """Yield the status now and after each change, at most four times a second."""
        return self.notifier.values(self.status)

    def project(self, row: ProjectRow) -> views.ProjectView:
        """Return an attached project."""
        return self.rows.project(row, self.live.current, "")

    def preferences(self) -> views.PreferencesView:
        """Return the user's preferences, the presets and the machine."""
        readings, machine, current = self.readings(), self.machine(), self.live.current
        presence, source = readings.presence, readings.power.source
        is_readable = presence.kind is PresenceKind.READABLE
        shown = views.MachineView(
            cores=machine.cores,
            fast_cores=machine.fast_cores,
            memory_bytes=machine.memory_bytes,
            free_disk_bytes=readings.free_disk_bytes,
            gpus=[card.title for card in self.cards],
            devices={one.name: one.title for one in (PROCESSOR, *self.cards)},
            on_battery=None if source is PowerSource.UNKNOWN else source is not PowerSource.MAINS,
            battery_percent=readings.power.percent,
            presence=presence_sentence(presence),
            idle_seconds=max(0.0, readings.now - presence.last_input_at) if is_readable else None,
            cpu_others_percent=readings.cpu_others_percent,
            hottest_celsius=readings.hottest_celsius,
            metered=readings.metered,
        )
        return views.PreferencesView(
            values=current,
            preset=preset_of(current, machine.cores),
            presets={name: with_preset(current, name, machine.cores) for name in PRESETS},
            machine=shown,
        )

    def signal_rules(self) -> views.RulesView:
        """Return the rules on signals, what they say now, and what they would have said."""
        rules = self.rules.current
        readings = self.readings()
        states = row_states(rules, readings.signals, (), readings.now, readings.local_time)
        held = [state.row for state in states if not state.allows]
        states = row_states(rules, readings.signals, held, readings.now, readings.local_time)
        begin, end = day_before(readings.now)
        seen = would_have_worked(rules, self.signal_history(), begin, end, local_time)
        shown = bool(rules.rows) and seen.says_something
        return views.RulesView(
            rules=rules,
            signals=[_signal(one, readings.signals.get(one.name)) for one in rules.signals],
            rows=[
                views.RowView(
                    row=state.row, allows=state.allows, message=message_of(state.sentence)
                )
                for state in states
            ],
            allowed=allows_work(rules, states),
            hours_yesterday=round(seen.worked_seconds / 3600, 1) if shown else None,
            hours_known=round(seen.known_seconds / 3600, 1),
            hooks=[
                views.HookView(name=hook.name, created_at=hook.created_at)
                for hook in self.hooks.all()
            ],
        )

    def contribution(self, days: int) -> views.ContributionView:
        """Return what was contributed on the last `days` days, without gaps, and in total."""
        last = date.fromisoformat(local_day(system_clock()))
        sums = self.journal.days(days)  # by the names of a view's fields, and others
        wanted = [
            (last - timedelta(days=back)).isoformat()
            for back in reversed(range(max(1, min(days, _MOST_DAYS))))
        ]
        return views.ContributionView(
            days=[
                msgspec.convert({"day": day} | sums.get(day, {}), views.DayView) for day in wanted
            ],
            total=msgspec.convert({"day": ""} | self.journal.totals(), views.DayView),
        )

    def receipts(self, days: int, *, each: bool = False) -> views.ReceiptsView:
        """Return the receipts of the last `days` days; `each`: also every single one."""
        factor = self.live.current.co2_grams_per_kwh
        return read_receipts(self.journal, days, factor, system_clock(), each=each)

    def history(self, *, before: int | None, count: int) -> views.HistoryView:
        """Return events older than the one with id `before` (None: the newest), newest first."""
        events = self.journal.events(before, min(max(count, 1), _MOST_EVENTS))
        return views.HistoryView(events=[_event(event) for event in events])

    def folded_history(
        self, wanted: HistoryFilter, *, before: int | None, count: int
    ) -> views.HistoryView:
        """Return a page of the history in which the units of a day are folded, newest first."""
        rows = folded_events(self.journal, wanted, before, count + 1)
        return views.HistoryView(
            events=[_event(event, folded) for event, folded in rows[:count]],
            older=rows[count - 1][0].id if len(rows) > count else None,
        )

    async def curve(self, project: str) -> views.CurveView:
        """Return how a project improved; asks its coordinator at most once a minute.

        Raises:
            InputError: no such project is attached.
            NetworkNotAllowedError: the user's rules do not allow to ask now.
            NetworkError: the coordinator cannot be reached.
        """
        row = find_attached(self.journal, project)
        decision = self.loop.network()
        if not decision.allowed:
            raise NetworkNotAllowedError(str(decision.sentence))
        asked_at, known = self._curves.get(row.id, (0.0, None))
        now = system_clock()
        if known is not None and now - asked_at < _CURVE_SECONDS:
            return known
        status = await self.attaching.status(row)
        metric = status.target.metric if status.target and status.target.metric else "loss"
        points = [point for point in status.series if metric in point.metrics]
        view = views.CurveView(
            project=row.name,
            metric=metric,
            versions=[point.version for point in points],
            made_at=[point.made_at for point in points],
            values=[point.metrics[metric] for point in points],
            ours=self.journal.our_versions(row.id),
            attached_at=row.attached_at,
        )
        if len(self._curves) >= _CURVES_KEPT:
            self._curves.clear()
        self._curves[row.id] = (now, view)
        return view

    def facts(self, project: str) -> views.ProjectFacts:
        """Return what is known of an attached project.

        Raises:
            InputError: no such project is attached.
        """
        row = find_attached(self.journal, project)
        counters = self.journal.counters(row.id)
        units = counters.get("units_done", 0)
        seconds = counters.get("compute_seconds", 0.0) / units if units else None
        metadata = self.rows.metadata(row)
        return self._facts(row.attach_link, metadata, row.memory.latest_version, seconds)

    async def preview(self, link: str) -> views.ProjectFacts:
        """Return what a link's project is, without attaching it; nothing is kept.

        Raises:
            PlebError: the link is wrong, or its coordinator cannot be reached or believed.
        """
        found = await self.attaching.look_at(link)
        return self._facts(found.link, found.metadata, 0, None)

    def habits(self) -> views.HabitsView:
        """Return for how long this PC usually stays free from now on."""
        return self.rows.habits(self.live.current, system_clock())

    def units(self, part: str, before: int | None = None) -> views.UnitsView:
        """Return a page of the units of one part, newest first.

        Raises:
            InputError: there is no such part.
        """
        if part not in set(UnitPart):
            parts = ", ".join(UnitPart)
            raise InputError(f"There are no {part!r} units: choose one of {parts}.")
        return self.rows.units(UnitPart(part), before)

    def log(self, lines: int) -> views.LogView:
        """Return the log's last lines that are JSON; the last may be cut off by a power cut."""
        parsed: list[dict[str, Any]] = []
        with suppress(FileNotFoundError), self.log_file.open(encoding="utf-8") as file:
            for line in deque(file, maxlen=min(lines, _MOST_LOG_LINES)):
                with suppress(ValueError):
                    parsed.append(json.loads(line))
        return views.LogView(lines=parsed)

    def _facts(
        self, link: AttachLink, metadata: ProjectMetadata, version: int, unit_seconds: float | None
    ) -> views.ProjectFacts:
        place = (link.base_url, link.project)
        return views.ProjectFacts(
            project=link.project,
            url=link.base_url,
            link=str(link),
            fingerprint=fingerprint_of(metadata.root_key),
            title=metadata.title or link.project,
            description=metadata.description,
            contact=metadata.contact,
            data_licence=metadata.data_licence,
            version=version,
            versions_planned=metadata.training.versions,
            parameters=sum(elements(spec) for spec in metadata.model.parameters),
            base_bytes=metadata.model.base.blob.size if metadata.model.base else 0,
            comparable=metadata.verification.comparable,
            attached=any((row.base_url, row.name) == place for row in self.rows.attached()),
            expectation=_expectation(metadata, self.live.current, unit_seconds),
            members=len(metadata.family.members) if metadata.family else 0,
            own_data=metadata.data.own is not None,
        )


def _signal(signal: Signal, reading: SignalReading | None) -> views.SignalView:
    known = reading or SignalReading()
    return views.SignalView(
        signal=signal,
        value=known.value,
        at=known.at,
        problem=None if known.problem is None else message_of(known.problem),
        next_at=known.next_at,
    )


def _event(event: Event, count: int = 1) -> views.EventView:
    return views.EventView(
        id=event.id,
        at=event.at,
        kind=event.kind.value,
        project=event.project,
        message=message_of(event.sentence),
        outcome=OUTCOMES.get(event.sentence.template, ""),
        count=count,
    )


def presence_sentence(presence: Presence) -> str:
    """Return how input is watched, or why it cannot be."""
    if presence.kind is PresenceKind.READABLE:
        return f"Keyboard and mouse are watched by {presence.method}."
    if presence.kind is PresenceKind.NO_SESSION:
        return "Keyboard and mouse are not watched: there is no session."
    return presence.problem


def _expectation(
    metadata: ProjectMetadata, preferences: Preferences, unit_seconds: float | None
) -> views.Expectation:
    """Return an estimate of what a project takes from this PC on a usual day.

    `unit_seconds`: how long a unit took here so far; None: not known yet, a typical time is used.
    Each unit downloads a version's difference and uploads a delta; shards are downloaded once and
    stay in the cache.
    """
    hours = hours_per_day(preferences)
    seconds = unit_seconds or _TYPICAL_UNIT_SECONDS
    model, codec = metadata.model, metadata.codec
    down = delta_bytes(model, codec.down, codec.block)
    up = delta_bytes(model, codec.up, codec.block)
    memory_bytes = worker_settings(preferences).memory_bytes
    return views.Expectation(
        unit_minutes=None if unit_seconds is None else unit_seconds / 60,
        hours_per_day=hours,
        download_bytes_per_day=bytes_per_day(hours, seconds, down),
        upload_bytes_per_day=bytes_per_day(hours, seconds, up),
        kwh_per_day=kwh_per_day(preferences),
        disk_bytes=preferences.cache_bytes,
        memory_bytes=min(memory_bytes, metadata.limits.memory_bytes),
    )
