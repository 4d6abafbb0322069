"""The real `Controller` and `StatusReader` for the page, over a played loop and coordinator.

What the page changes is really changed (preferences, pause, boost) or recorded in `calls`; what a
test lays over the reader (`change`, `facts_by_link`, `events`) is what the page shows. Errors are
those that agentd raises.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
from typing_extensions import override

from pleb_agent.control.controller import Controller
from pleb_agent.control.hooks import Hooks
from pleb_agent.control.household_control import check_preset
from pleb_agent.control.journal_reader import JournalReader
from pleb_agent.control.live_preferences import LivePreferences
from pleb_agent.control.live_rules import LiveRules
from pleb_agent.control.notifier import ChangeNotifier
from pleb_agent.control.overrides import Overrides
from pleb_agent.control.status_reader import StatusReader
from pleb_agent.control.views import (
    AssignmentView,
    AutostartView,
    ContributionView,
    CurveView,
    DayView,
    EventView,
    Expectation,
    HistoryView,
    HouseholdView,
    LogView,
    MemberView,
    MessageView,
    OwnDataView,
    ProjectFacts,
    ProjectView,
    ReceiptDayView,
    ReceiptsView,
    ReceiptView,
    StatusView,
    UnitsView,
    UseView,
)
from pleb_agent.core.agent_state import Activity, AgentState
from pleb_agent.core.devices import FoundDevice
from pleb_agent.core.habits import FreeTime, Habits
from pleb_agent.core.headline import headline
from pleb_agent.core.override import NO_OVERRIDE
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readiness import Action, Decision, PolicyReason, decide
from pleb_agent.core.readings import Gpu, Power, PowerSource, Presence, PresenceKind, Readings
from pleb_agent.core.sentence import Sentence, say
from pleb_agent.lan.household import HouseholdAct
from pleb_agent.loop.status import CurrentUnit
from pleb_agent.sensors.machine import Machine
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from pleb_agent.core.unit_parts import Held
    from pleb_agent.journal.history_list import HistoryFilter

CORES = 16
LINK = "https://train.example:7532/join/words#" + "ab" * 32


def message(text: str | Sentence, **values: Any) -> MessageView:
    sentence = say(text, **values)
    return MessageView(text=str(sentence), template=sentence.template, values=sentence.values)


def unit(done: int = 12, total: int = 40, losses: int = 12) -> CurrentUnit:
    pairs = [(step, 3.2 / (1 + step / 9) + 0.08 * (-1) ** step) for step in range(1, losses + 1)]
    return CurrentUnit(
        project="words",
        assignment=7,
        id=7,
        kind="train",
        version=81,
        steps_done=done,
        steps_total=total,
        loss=pairs[-1][1] if pairs else None,
        compute_seconds=95.0,
        device="cpu",
        capability="AVX2",
        losses=tuple(pairs),
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
        comparable=True,
        version=81,
        versions_planned=300,
        parameters=1_243_000,
        base_bytes=13_037_464,
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
    said = message("Free to work.")
    usual = StatusView(
        running=True,
        activity="working",
        sentence=said.text,
        message=said,
        next_look_at=time.time() + 300,
        reason="ready",
        override=NO_OVERRIDE,
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


def events() -> list[EventView]:
    said = [
        ("run", "Free to work."),
        ("pause", "You are using the PC."),
        ("unit", "A unit was accepted."),
        ("stop", "Only 0.5 GiB of disk are free; 1.0 GiB are left alone."),
        ("attach", "The project was attached."),
        ("start", "The agent has started."),
    ]
    return [
        EventView(
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


def units_by_part() -> dict[str, list[AssignmentView]]:
    now = time.time()
    shown = {"title": "Shakespeare, letter by letter", "page": "https://train.example:7532/x"}
    judged = shown | {"state": "done", "ended_at": now - 900, "credit": 1.3e13}
    why = message("A trusted host's result differs.")
    return {
        "in_hand": [
            assignment(id=7, state="received", lease_ends_at=now + 300, **shown),
            assignment(id=8, held="paused", **shown),
            assignment(id=6, state="uploading", **shown),
        ],
        "waiting": [assignment(id=5, state="done", ended_at=now - 60, **shown)],
        "accepted": [
            assignment(id=4, unit=1204, verdict="valid", reason=message("2 hosts agree."), **judged)
        ],
        "refused": [
            assignment(
                id=3,
                unit=1203,
                verdict="invalid",
                reason=why,
                distance=0.42,
                tolerance=0.031,
                **judged | {"credit": 0.0},
            )
        ],
        "uncounted": [
            assignment(id=2, state="late", ended_at=now - 9e4, note="The lease ended.", **shown)
        ],
    }


class PlayedHousehold:
    """A household of three; `on`: whether this PC is in it. `names`: of the others."""

    def __init__(self, agent: PageAgent) -> None:
        self._agent = agent
        self.on = True
        self.code = ""
        self.names = ["hall", "attic"]

    async def view(self, act: HouseholdAct = HouseholdAct.SHOW, preset: str = "") -> HouseholdView:
        if preset:
            check_preset(preset)
        if act is not HouseholdAct.SHOW:
            self._agent.called("household", act.value, preset)
        if not self.on:
            return HouseholdView(on=False, members=[])
        said = self._agent.status().message
        silent = MemberView(name="10.0.0.9", here=False, reached=False, message=said)
        members = [
            MemberView(
                name=name,
                here=name == "den",
                reached=True,
                message=said,
                activity="working",
                projects=[one.title for one in self._agent.status().projects],
                progress=0.4,
                accepted=12,
                credit_flops=3e13,
                energy_kwh=0.4,
                from_neighbours=8e6,
                to_neighbours=2e6,
            )
            for name in ("den", *self.names)
        ]
        return HouseholdView(
            on=True,
            members=[*members, silent],
            code=self.code,
            code_ends_at=time.time() + 600 if self.code else None,
            accepted=36,
            credit_flops=9e13,
            energy_kwh=1.2,
            from_neighbours=24e6,
        )

    async def show_code(self) -> HouseholdView:
        self._agent.called("household_code")
        self.on, self.code = True, "ABCD-EFGH-JK23"
        return await self.view()

    async def join(self, code: str) -> HouseholdView:
        self._agent.called("household_join", code)
        self.on = True
        return await self.view()

    async def leave(self) -> HouseholdView:
        self._agent.called("household_leave")
        self.on = False
        return await self.view()


class PlayedOwnData:
    """Chooses and forgets any folder."""

    def __init__(self, agent: PageAgent) -> None:
        self._agent = agent

    async def choose(self, project: str, folder: str) -> OwnDataView:
        self._agent.called("choose_data", project, folder)
        return OwnDataView(project=project, folder=folder, sentence="")

    def forget(self, project: str) -> OwnDataView:
        self._agent.called("forget_data", project)
        return OwnDataView(project=project, folder="", sentence="")


class PageAgent:
    """One agent without a process. `calls`: what the ports were asked, by (name, arguments).

    `failure`: not empty: the sentence with which every port refuses.
    """

    def __init__(self, **shown: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.failure = ""
        journal = cast("Any", PlayedJournal(self))
        overrides = Overrides(journal)
        folder = Path(tempfile.mkdtemp(prefix="pleb-page-"))
        weakref.finalize(self, shutil.rmtree, folder)
        live = LivePreferences(folder / "preferences.json")
        live.change(lambda _: Preferences(threads=CORES // 2))
        self.loop = PlayedLoop(self, overrides)
        shared: Any = {
            "journal": journal,
            "loop": self.loop,
            "overrides": overrides,
            "live": live,
            "attaching": PlayedAttaching(self),
            "packages": PlayedPackages(self),
            "notifier": ChangeNotifier(),
        }
        rows = JournalReader(cast("Any", shared["journal"]), cast("Any", None))
        self.reader = PlayedReader(
            **shared,
            rows=cast(
                "Any",
                SimpleNamespace(attached=list, open=list, ended=list, habits=rows.habits),
            ),
            readings=self.loop.readings,
            log_file=Path("unused"),
            desktop=True,
            rules=LiveRules(folder / "rules.json"),
            signal_history=dict,
            hooks=Hooks(journal, time.time, secrets.token_bytes),
            cards=(FoundDevice("cuda-0", "NVIDIA GeForce RTX 4060"),),
            machine=lambda: Machine(CORES, 32 * 2**30),
            shown={"unit": unit(), "projects": [project()], "first_run": False} | shown,
        )
        self.autostart = PlayedAutostart(self)
        self.household = PlayedHousehold(self)
        self.controller = Controller(
            **shared,
            reader=self.reader,
            autostart=cast("Any", self.autostart),
            reports=cast("Any", PlayedReports()),
            own_data=cast("Any", PlayedOwnData(self)),
        )

    @property
    def values(self) -> Preferences:
        return self.reader.live.current

    def status(self) -> StatusView:
        return self.reader.status()

    def change(self, **shown: Any) -> None:
        """Change what the page shows, as the loop would."""
        self.reader.shown.update(shown)
        self.reader.notifier.notify()

    def prefer(self, **values: Any) -> PageAgent:
        self.reader.live.change(lambda old: msgspec.structs.replace(old, **values))
        return self

    def called(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, arguments))
        if self.failure:
            raise InputError(self.failure)


@dataclass(frozen=True)
class PlayedReader(StatusReader):
    """The real reader; what the journal would hold comes from the test."""

    shown: dict[str, Any] = field(default_factory=dict)
    facts_by_link: dict[str, ProjectFacts] = field(default_factory=lambda: {LINK: facts()})
    events: list[EventView] = field(default_factory=events)
    days: list[DayView] = field(default_factory=days)
    lines: list[dict[str, Any]] = field(default_factory=log_lines)
    units_by_part: dict[str, list[AssignmentView]] = field(default_factory=units_by_part)

    @override
    def status(self) -> StatusView:
        usual = super().status()
        shown = msgspec.structs.replace(usual, **self.shown)
        if shown.unit or "message" in self.shown or "activity" in self.shown:
            title = shown.projects[0].title if shown.projects else ""
            state = AgentState(Activity(shown.activity), say("Why."), shown.next_look_at)
            kind = shown.unit.kind if shown.unit else ""
            said = message(headline(state, PolicyReason(shown.reason), kind, title))
            why = shown.message if "message" in self.shown else shown.why
            shown = msgspec.structs.replace(shown, headline=said, why=why)
        use = UseView(cores=3.8, memory_bytes=812 * 10**6, share_percent=60)
        shown = msgspec.structs.replace(shown, use=use if shown.unit else None)
        return msgspec.structs.replace(shown, sentence=shown.message.text)

    @override
    def project(self, row: Any) -> ProjectView:
        views: list[ProjectView] = self.shown["projects"]
        return next(one for one in views if one.project == row.name)

    @override
    def contribution(self, days: int) -> ContributionView:
        names = set(DayView.__struct_fields__) - {"day"}
        total = {name: sum(getattr(day, name) for day in self.days) for name in names}
        return ContributionView(days=self.days[-days:], total=DayView(day="", **total))

    @override
    def receipts(self, days: int, *, each: bool = False) -> ReceiptsView:
        names = [one.project for one in self.status().projects] or ["words"]
        shown = [
            ReceiptView(
                at=time.time(),
                day=day.day,
                project=names[0],
                unit=1200 + number,
                kind="train",
                epoch=0,
                version=80,
                credit=day.credit_flops,
                compute_seconds=day.compute_seconds,
                kwh=day.energy_kwh,
                measured_kwh=day.energy_kwh * (number % 3) / 2,
                co2_grams=day.energy_kwh * 350,
                proof="in",
            )
            for number, day in enumerate(reversed(self.days[-days:]))
            if day.accepted
        ]
        return ReceiptsView(
            since=self.days[0].day,
            days=[
                ReceiptDayView(
                    day=one.day,
                    project=one.project,
                    units=1,
                    compute_seconds=one.compute_seconds,
                    kwh=one.kwh,
                    measured_kwh=one.measured_kwh,
                    credit=one.credit,
                    co2_grams=one.co2_grams,
                )
                for one in shown
            ],
            receipts=shown if each else [],
            units=len(shown),
            kwh=sum(one.kwh for one in shown),
            measured_kwh=sum(one.measured_kwh for one in shown),
            co2_grams=sum(one.kwh for one in shown) * 350,
            spent_kwh=1.3 * sum(one.kwh for one in shown),
            co2_grams_per_kwh=350.0,
        )

    @override
    def history(self, *, before: int | None, count: int) -> HistoryView:
        older = [event for event in self.events if before is None or event.id < before]
        return HistoryView(events=older[:count])

    @override
    def folded_history(
        self, wanted: HistoryFilter, *, before: int | None, count: int
    ) -> HistoryView:
        older = [
            event
            for event in self.events
            if (before is None or event.id < before)
            and (not wanted.kinds or event.kind in wanted.kinds)
            and (not wanted.templates or event.message.template in wanted.templates)
        ]
        left = older[count - 1].id if len(older) > count else None
        return HistoryView(events=older[:count], older=left)

    @override
    def units(self, part: str, before: int | None = None) -> UnitsView:
        counts = {one: len(found) for one, found in self.units_by_part.items()}
        return UnitsView(part=part, units=self.units_by_part[part], counts=counts)

    @override
    async def curve(self, project: str) -> CurveView:
        self.facts(project)
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

    @override
    def facts(self, project: str) -> ProjectFacts:
        for found in self.shown["projects"]:
            if found.project == project:
                return facts(project=project, title=found.title, attached=True)
        raise InputError(f"No project {project!r} is attached; `pleb-agent projects` lists them.")

    @override
    async def preview(self, link: str) -> ProjectFacts:
        cast("PlayedAttaching", self.attaching).look_at(link)
        if link not in self.facts_by_link:
            raise InputError("That is no attach link; copy it whole, with what follows #.")
        return self.facts_by_link[link]

    @override
    def log(self, lines: int) -> LogView:
        return LogView(lines=self.lines[-lines:])


class PlayedJournal:
    """Settings in memory, and a row for each project that the page shows."""

    def __init__(self, agent: PageAgent) -> None:
        self._agent = agent
        self._settings: dict[str, str] = {}

    def setting(self, name: str) -> str:
        return self._settings.get(name, "")

    def set_setting(self, name: str, value: str) -> None:
        self._settings[name] = value
        if name == "hooks":
            self._agent.called(name)
        if name == "welcome_closed":
            self._agent.called(name)
            self._agent.reader.shown["first_run"] = False

    def projects(self) -> list[Any]:
        return [
            SimpleNamespace(
                id=one.project,
                name=one.project,
                link=one.link,
                base_url="",
                detaching=False,
                family="",
            )
            for one in self._agent.reader.shown["projects"]
        ]

    def set_no_new_work(self, name: str, *, on: bool) -> None:
        self._agent.called("no_new_work", name, on)
        shown = self._agent.reader.shown
        shown["projects"] = [
            msgspec.structs.replace(one, no_new_work=on) if one.project == name else one
            for one in shown["projects"]
        ]

    def hold_unit(self, number: int, held: Held) -> bool:
        parts = self._agent.reader.units_by_part
        found = any(one.id == number for one in parts["in_hand"])
        parts["in_hand"] = [
            msgspec.structs.replace(one, held=held.value) if one.id == number else one
            for one in parts["in_hand"]
        ]
        return found

    def habits(self, now: float) -> Habits:
        days = () if ("forget_habits", ()) in self._agent.calls else range(20, 0, -1)
        begins = [now - back * 86_400 - 600 for back in days]
        return Habits([FreeTime(begin, begin + 3600) for begin in begins], now - 600)

    def forget_habits(self, now: float) -> None:
        self._agent.called("forget_habits")

    def mark_detaching(self, name: str) -> None:
        self._agent.called("detach", name)
        shown = self._agent.reader.shown
        shown["projects"] = [one for one in shown["projects"] if one.project != name]


class PlayedLoop:
    """A loop that is always working, decided by the real policy."""

    def __init__(self, agent: PageAgent, overrides: Overrides) -> None:
        self._agent = agent
        self._overrides = overrides
        self._working = say("Working for words.")
        self.is_stopping = False
        self._looks_again_at = time.time() + 300
        self.status = SimpleNamespace(unit=None, units_finished=3)
        self.loops: list[Any] = []
        """Those of single devices, which the tests show by hand."""

    @property
    def governor(self) -> Any:
        return SimpleNamespace(decision=self._decision())

    def readings(self) -> Readings:
        now = time.time()
        return Readings(
            now=now,
            override=self._overrides.current,
            presence=Presence(PresenceKind.READABLE, last_input_at=now - 600, method="GNOME"),
            power=Power(PowerSource.MAINS, 88.0),
            gpus=(Gpu("NVIDIA GeForce RTX 4060", None, None, None),),
            cpu_others_percent=7.0,
            hottest_celsius=51.0,
            free_disk_bytes=210 * 10**9,
            metered=False,
        )

    def _decision(self) -> Decision:
        return decide(self.readings(), Preferences(while_in_use=True))[0]

    def state(self) -> AgentState:
        decision = self._decision()
        if decision.action is not Action.RUN:
            return AgentState(Activity.PAUSED, decision.sentence, None)
        return AgentState(Activity.WORKING, self._working, self._looks_again_at)

    def problems(self) -> dict[int, str]:
        return {}

    def changed(self) -> None:
        self._agent.called("changed")

    def note(self, *_: Any) -> None:
        pass

    def stop(self, *, finish: bool = False) -> None:
        self._agent.called("stop", finish)
        self.is_stopping = True
        self._agent.change()

    async def unit_held(self, number: int) -> None:
        self._agent.called("unit_held", number)

    async def leave(self, _: Any) -> None:
        pass


class PlayedReports:
    """What the page saves."""

    def log(self) -> str:
        return '{"event": "start"}\n'

    async def report(self) -> bytes:
        return b"PK..."


class PlayedAttaching:
    """Coordinators that know the links of `facts_by_link`."""

    def __init__(self, agent: PageAgent) -> None:
        self._agent = agent

    async def attach(self, link: str, *, invite: str | None, name: str, only: bool = False) -> Any:
        self._agent.called("attach", link, invite, name)
        found = await self._agent.reader.preview(link)
        new = project(found.project, title=found.title, counters={})
        shown = self._agent.reader.shown
        shown["projects"] = [*shown["projects"], new]
        return SimpleNamespace(name=found.project)

    def look_at(self, link: str) -> None:
        self._agent.called("look_at", link)

    def account_link(self, row: Any) -> str:
        self._agent.called("account_link", row.name)
        return "pleb-account:words:" + "Zm9v" * 30


class PlayedPackages:
    release = None

    def __init__(self, agent: PageAgent) -> None:
        self._agent = agent

    def runtime_view(self) -> None:
        return None

    def begin_runtime(self, kind: str) -> None:
        self._agent.called("begin_runtime", kind)

    async def install_update(self) -> None:
        self._agent.called("install_update")


class PlayedAutostart:
    def __init__(self, agent: PageAgent) -> None:
        self._agent = agent
        self.on = False

    def view(self) -> AutostartView:
        return AutostartView(on=self.on, sentence="Starts when you log in.")

    def turn(self, *, on: bool) -> AutostartView:
        self._agent.called("autostart", on)
        self.on = on
        return self.view()
