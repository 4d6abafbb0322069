"""What the faces see: reads the loop, the journal and the sensors, changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pleb_agent.app.clock import system_clock
from pleb_agent.app.giving import contribution, expectation
from pleb_agent.app.settings import worker_settings
from pleb_agent.app.view import message_of, presence_sentence, unit_view, wish_view
from pleb_agent.core.presets import PRESETS, preset_of, with_preset
from pleb_agent.core.readings import PowerSource, PresenceKind
from pleb_agent.core.wish import WishKind
from pleb_agent.journal.activity_log import local_day
from pleb_agent.sensors.machine import read_machine
from pleb_agent.web.views import (
    CurveView,
    Event,
    HistoryView,
    MachineView,
    PreferencesView,
    ProjectFacts,
    StatusView,
)
from pleb_shared.protocol.project import elements

if TYPE_CHECKING:
    from pleb_agent.app.live_preferences import LivePreferences
    from pleb_agent.app.packages import Packages
    from pleb_agent.app.senses import Senses
    from pleb_agent.app.view import Shower
    from pleb_agent.app.wishes import Wishes
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.loop.agent_loop import AgentLoop
    from pleb_agent.loop.attach import Attaching
    from pleb_agent.web.views import ContributionView, ProjectView
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["Looking"]

_CURVE_SECONDS: Final = 60.0
_MOST_EVENTS: Final = 500
_LOSS: Final = "loss"
_CURVES_KEPT: Final = 16


@dataclass(frozen=True)
class Looking:
    """`desktop`: a session is watched."""

    journal: Journal
    loop: AgentLoop
    wishes: Wishes
    live: LivePreferences
    attaching: Attaching
    shower: Shower
    senses: Senses
    packages: Packages
    desktop: bool
    _curves: dict[int, tuple[float, CurveView]] = field(default_factory=dict)

    def status(self) -> StatusView:
        """Return what the agent does."""
        state, live = self.loop.state(), self.loop.status
        wish = wish_view(self.wishes.current, system_clock())
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
            projects=self.shower.projects(self.live.current, self.loop.problems()),
            open=self.shower.open(),
            history=self.shower.history(),
            update=self.packages.update_view(),
            runtime=self.packages.runtime_view(),
        )

    def project(self, row: ProjectRow) -> ProjectView:
        """Return one attached project."""
        return self.shower.project(row, self.live.current, "")

    def preferences(self) -> PreferencesView:
        """Return the user's preferences, the presets and the machine."""
        current, cores = self.live.current, read_machine().cores
        return PreferencesView(
            values=current,
            preset=preset_of(current, cores),
            presets={name: with_preset(current, name, cores) for name in PRESETS},
            machine=self._machine(),
        )

    def contribution(self, days: int) -> ContributionView:
        """Return what was given on the last days, and in all."""
        today = local_day(system_clock())
        return contribution(self.journal.days(days), self.journal.totals(), today, days)

    def history(self, before: int | None, count: int) -> HistoryView:
        """Return events, newest first."""
        events = self.journal.events(before, min(max(count, 1), _MOST_EVENTS))
        return HistoryView(
            events=[
                Event(
                    id=event.id,
                    at=event.at,
                    kind=event.kind.value,
                    project=event.project,
                    message=message_of(event.sentence),
                )
                for event in events
            ]
        )

    async def curve(self, row: ProjectRow) -> CurveView:
        """Return how a project got better; asked of its coordinator at most once a minute."""
        asked_at, known = self._curves.get(row.id, (0.0, None))
        now = system_clock()
        if known is not None and now - asked_at < _CURVE_SECONDS:
            return known
        status = await self.attaching.status(row)
        metric = status.target.metric if status.target and status.target.metric else _LOSS
        points = [point for point in status.series if metric in point.metrics]
        view = CurveView(
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

    def facts(self, row: ProjectRow) -> ProjectFacts:
        """Return what is known of an attached project."""
        metadata = self.shower.metadata(row)
        counters = self.journal.counters(row.id)
        units = counters.get("units_done", 0)
        seconds = counters.get("compute_seconds", 0.0) / units if units else None
        return self._facts(row.attach_link, metadata, row.memory.latest_version, seconds)

    def facts_of(self, link: AttachLink, metadata: ProjectMetadata) -> ProjectFacts:
        """Return what a link's project says of itself."""
        return self._facts(link, metadata, 0, None)

    def _facts(
        self,
        link: AttachLink,
        metadata: ProjectMetadata,
        version: int,
        unit_seconds: float | None,
    ) -> ProjectFacts:
        memory = worker_settings(self.live.current).memory_bytes
        return ProjectFacts(
            project=link.project,
            url=link.base_url,
            link=str(link),
            fingerprint=link.root,
            title=metadata.title or link.project,
            description=metadata.description,
            contact=metadata.contact,
            data_licence=metadata.data_licence,
            version=version,
            versions_planned=metadata.training.versions,
            parameters=sum(elements(spec) for spec in metadata.model.parameters),
            attached=self._is_attached(link),
            expectation=expectation(
                metadata, self.live.current, unit_seconds=unit_seconds, memory_bytes=memory
            ),
        )

    def _is_attached(self, link: AttachLink) -> bool:
        place = (link.base_url, link.project)
        return any(
            (row.base_url, row.name) == place and not row.detaching
            for row in self.journal.projects()
        )

    def _machine(self) -> MachineView:
        readings, machine = self.senses.read(), read_machine()
        presence, source = readings.presence, readings.power.source
        return MachineView(
            cores=machine.cores,
            memory_bytes=machine.memory_bytes,
            free_disk_bytes=readings.free_disk_bytes,
            gpus=[gpu.name for gpu in readings.gpus],
            on_battery=None if source is PowerSource.UNKNOWN else source is not PowerSource.MAINS,
            battery_percent=readings.power.percent,
            presence=presence_sentence(presence),
            idle_seconds=(
                max(0.0, readings.now - presence.last_input_at)
                if presence.kind is PresenceKind.READABLE
                else None
            ),
            cpu_others_percent=readings.cpu_others_percent,
            hottest_celsius=readings.hottest_celsius,
            metered=readings.metered,
        )
