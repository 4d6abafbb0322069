"""A `Control` whose state the test sets: what the page shows comes from here, and what it asks
for is kept in `calls`. Errors are those that agentd raises."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from pleb_agent.core.preference_table import changed
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.presets import PRESETS, preset_of, with_preset
from pleb_agent.core.sentence import Sentence, say
from pleb_agent.web.views import (
    AssignmentView,
    AutostartView,
    ContributionView,
    CurveView,
    DayView,
    Event,
    Expectation,
    HistoryView,
    LinkView,
    LogView,
    MachineView,
    Message,
    PageAddress,
    PreferencesView,
    ProjectFacts,
    ProjectView,
    StatusView,
    UnitView,
    WishView,
)
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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

CORES = 16
LINK = "https://train.example:7532/join/words#" + "ab" * 32


def message(text: str | Sentence, **values: Any) -> Message:
    sentence = say(text, **values)
    return Message(text=str(sentence), template=sentence.template, values=sentence.values)


def unit(done: int = 12, total: int = 40, losses: int = 12) -> UnitView:
    pairs = [(step, 3.2 / (1 + step / 9) + 0.08 * (-1) ** step) for step in range(1, losses + 1)]
    return UnitView(
        project="words",
        assignment=7,
        kind="train",
        version=81,
        steps_done=done,
        steps_total=total,
        loss=pairs[-1][1] if pairs else None,
        compute_seconds=95.0,
        losses=pairs,
    )


def project(name: str = "words", **changes: Any) -> ProjectView:
    usual = ProjectView(
        project=name,
        title="Shakespeare, letter by letter",
        url="https://train.example:7532",
        link=LINK,
        host="c0ffee" * 10,
        role="host",
        account="9f86d081884c7d65" * 4,
        latest_version=81,
        share=100,
        problem="",
        counters={
            "units_done": 31,
            "verdicts_valid": 29,
            "credit_flops": 4.1e14,
            "samples": 48_320,
            "compute_seconds": 7_900,
            "bytes_received": 210e6,
            "bytes_sent": 88e6,
            "energy_kwh": 0.61,
        },
        attached_at=time.time() - 9 * 86_400,
        waits_for_confirmation=False,
    )
    return msgspec.structs.replace(usual, **changes)


def facts(**changes: Any) -> ProjectFacts:
    usual = ProjectFacts(
        project="words",
        url="https://train.example:7532",
        link=LINK,
        fingerprint="ab" * 32,
        title="Shakespeare, letter by letter",
        description="A small language model learns to write like Shakespeare.",
        contact="Ada Lovelace <ada@train.example>",
        data_licence="Public domain",
        version=81,
        versions_planned=300,
        parameters=1_243_000,
        attached=False,
        expectation=Expectation(
            unit_minutes=4.0,
            hours_per_day=5.5,
            download_bytes_per_day=64e6,
            upload_bytes_per_day=21e6,
            kwh_per_day=0.35,
            disk_bytes=310e6,
            memory_bytes=900e6,
        ),
    )
    return msgspec.structs.replace(usual, **changes)


def status(**changes: Any) -> StatusView:
    said = message("Nothing speaks against working.")
    usual = StatusView(
        running=True,
        activity="working",
        sentence=said.text,
        message=said,
        next_look_at=time.time() + 300,
        reason="ready",
        wish=WishView(kind="none"),
        paused=False,
        unit=unit(),
        units_finished=3,
        pid=4711,
        desktop=True,
        first_run=False,
        projects=[project()],
        open=[],
        history=[],
    )
    new = msgspec.structs.replace(usual, **changes)
    return msgspec.structs.replace(new, sentence=new.message.text)


class FakeControl:
    """agentd for the page. `calls`: what was asked, as (method, wish)."""

    def __init__(self, first: StatusView | None = None) -> None:
        self._status = first or status()
        self._changed = asyncio.Event()
        self.values = Preferences(threads=CORES // 2)
        self.facts_by_link: dict[str, ProjectFacts] = {LINK: facts()}
        self.on = False
        self.calls: list[tuple[str, Any]] = []
        self.events: list[Event] = events()
        self.days = days()
        self.lines: list[dict[str, Any]] = log_lines()
        self.failure = ""
        self.curve_view: CurveView | None = None

    # -- for tests -------------------------------------------------------------------------

    def show(self, new: StatusView) -> None:
        """Change the status, as the loop would."""
        self._status = new
        self._changed.set()
        self._changed = asyncio.Event()

    def change(self, **changes: Any) -> StatusView:
        self.show(status(**(msgspec.structs.asdict(self._status) | changes)))
        return self._status

    def _called(self, name: str, wish: Any = None) -> None:
        self.calls.append((name, wish))
        if self.failure:
            raise InputError(self.failure)

    # -- Control: looking ------------------------------------------------------------------

    def status(self) -> StatusView:
        return self._status

    async def changes(self) -> AsyncIterator[StatusView]:
        while True:
            changed = self._changed
            yield self._status
            await changed.wait()

    def preferences(self) -> PreferencesView:
        return PreferencesView(
            values=self.values,
            preset=preset_of(self.values, CORES),
            presets={name: with_preset(self.values, name, CORES) for name in PRESETS},
            machine=MachineView(
                cores=CORES,
                memory_bytes=32 * 2**30,
                free_disk_bytes=210 * 10**9,
                gpus=["NVIDIA GeForce RTX 4060"],
                on_battery=False,
                battery_percent=88.0,
                presence="GNOME",
                idle_seconds=12.0,
                cpu_others_percent=7.0,
                hottest_celsius=51.0,
                metered=False,
            ),
        )

    def contribution(self, days: int) -> ContributionView:
        chosen = self.days[-days:]
        total = {
            name: sum(getattr(day, name) for day in self.days)
            for name in DayView.__struct_fields__
            if name != "day"
        }
        return ContributionView(days=chosen, total=DayView(day="", **total))

    def history(self, *, before: int | None, count: int) -> HistoryView:
        older = [event for event in self.events if before is None or event.id < before]
        return HistoryView(events=older[:count])

    async def curve(self, project: str) -> CurveView:
        self._called("curve", project)
        self.facts(project)
        if self.curve_view is not None:
            return self.curve_view
        versions = list(range(82))
        return CurveView(
            project=project,
            metric="loss",
            versions=versions,
            made_at=[time.time() - 86_400 * (90 - version) / 9 for version in versions],
            values=[4.1 / (1 + version / 11) + 0.03 * (version % 3) for version in versions],
            ours=[34, 35, 36, 38, 41, 44, 52, 60, 61, 70, 77],
            attached_at=time.time() - 6 * 86_400,
        )

    def facts(self, project: str) -> ProjectFacts:
        for found in self._status.projects:
            if found.project == project:
                return facts(project=project, title=found.title, attached=True)
        raise InputError(f"No project {project!r} is attached; `pleb-agent projects` lists them.")

    async def look_at(self, wish: LookWish) -> ProjectFacts:
        self._called("look_at", wish)
        try:
            return self.facts_by_link[wish.link]
        except KeyError:
            raise InputError(
                "That is no attach link; copy it whole, with what follows #."
            ) from None

    def log(self, lines: int) -> LogView:
        return LogView(lines=self.lines[-lines:])

    def autostart(self) -> AutostartView:
        return AutostartView(on=self.on, supported=True, sentence="Starts when you log in.")

    # -- Control: doing ---------------------------------------------------------------------

    async def attach(self, wish: AttachWish) -> ProjectView:
        self._called("attach", wish)
        found = self.facts_by_link.get(wish.link)
        if found is None:
            raise InputError("That is no attach link; copy it whole, with what follows #.")
        new = project(found.project, title=found.title, counters={})
        self.change(projects=[*self._status.projects, new])
        return new

    async def detach(self, wish: DetachWish) -> ProjectView:
        self._called("detach", wish)
        left = [found for found in self._status.projects if found.project != wish.project]
        gone = [found for found in self._status.projects if found.project == wish.project]
        self.change(projects=left)
        return gone[0]

    async def link(self, wish: LinkWish) -> LinkView:
        self._called("link", wish)
        return LinkView(text="pleb-account:words:" + "Zm9v" * 30, sentence="Works for one hour.")

    async def pause(self, wish: PauseWish) -> StatusView:
        self._called("pause", wish)
        until = None if wish.seconds is None else time.time() + wish.seconds
        if wish.until_tomorrow:
            until = time.time() + 36_000
        said = message("Paused by you, until you resume.")
        return self.change(
            activity="paused",
            message=said,
            paused=True,
            wish=WishView(kind="pause", until=until),
            reason="paused_by_user",
        )

    async def boost(self, wish: BoostWish) -> StatusView:
        self._called("boost", wish)
        return self.change(wish=WishView(kind="boost", until=time.time() + wish.seconds))

    async def resume(self) -> StatusView:
        self._called("resume")
        return self.change(
            activity="working",
            message=message("Nothing speaks against working."),
            paused=False,
            wish=WishView(kind="none"),
            reason="ready",
        )

    async def stop(self, wish: StopWish) -> StatusView:
        self._called("stop", wish)
        return self.change(message=message("Finishing the unit in hand, then stopping."))

    async def set_preferences(self, wish: PreferencesWish) -> PreferencesView:
        self._called("set_preferences", wish)
        self.values = changed(self.values, wish.changes)
        return self.preferences()

    async def take_preset(self, wish: PresetWish) -> PreferencesView:
        self._called("take_preset", wish)
        self.values = with_preset(self.values, wish.name, CORES)
        return self.preferences()

    async def set_autostart(self, wish: AutostartWish) -> AutostartView:
        self._called("set_autostart", wish)
        self.on = wish.on
        return self.autostart()

    async def fetch_runtime(self, wish: RuntimeWish) -> StatusView:
        self._called("fetch_runtime", wish)
        return self._status

    async def install_update(self) -> StatusView:
        self._called("install_update")
        return self._status

    async def close_welcome(self) -> StatusView:
        self._called("close_welcome")
        return self.change(first_run=False)

    def page_address(self, wish: PageWish) -> PageAddress:
        self._called("page_address", wish)
        return PageAddress(url="http://127.0.0.1:1/open?code=once")


def events() -> list[Event]:
    said = [
        ("run", "Nothing speaks against working."),
        ("pause", "You are using the PC."),
        ("unit", "A unit was accepted."),
        ("stop", "Only 0.5 GiB of disk are free; 1.0 GiB are left alone."),
        ("attach", "The project was attached."),
        ("start", "The agent has started."),
    ]
    return [
        Event(
            id=200 - number,
            at=time.time() - 700 * number - 60,
            kind=said[number % 6][0],
            project="words" if said[number % 6][0] in {"unit", "attach"} else "",
            message=message(said[number % 6][1]),
        )
        for number in range(120)
    ]


def days() -> list[DayView]:
    begin = time.time() - 29 * 86_400
    return [
        DayView(
            day=time.strftime("%Y-%m-%d", time.localtime(begin + 86_400 * number)),
            units=(number * 7) % 5,
            accepted=(number * 7) % 5,
            samples=1_500.0 * ((number * 7) % 5),
            credit_flops=1.3e13 * ((number * 7) % 5),
            compute_seconds=240.0 * ((number * 7) % 5),
            energy_kwh=0.02 * ((number * 7) % 5),
            bytes_received=6e6,
            bytes_sent=2e6,
        )
        for number in range(30)
    ]


def log_lines() -> list[dict[str, Any]]:
    return [
        {
            "time": time.time() - 3_600 + 60 * minute,
            "level": ("info", "info", "warning", "error")[minute % 4],
            "event": ("start", "unit done", "offline", "upload failed")[minute % 4],
            "assignment": minute,
        }
        for minute in range(60)
    ]


def assignment(**changes: Any) -> AssignmentView:
    usual = AssignmentView(
        assignment=8,
        project="words",
        kind="train",
        version=81,
        state="received",
        received_at=time.time() - 60,
        ended_at=None,
        lease_ends_at=time.time() + 3_000,
        verdict="",
        credit=0.0,
        note="",
    )
    return msgspec.structs.replace(usual, **changes)
