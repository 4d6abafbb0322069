"""What is written for Windows and macOS, with fakes of their interfaces."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading

import pytest

from pleb_agent.core.readings import UNKNOWN_POWER, Power, PowerSource
from pleb_agent.sensors.keep_awake import (
    Caffeinate,
    CannotStayAwake,
    KeepAwake,
)
from pleb_agent.sensors.load import process_seconds
from pleb_agent.sensors.macos_power import MacCharger, MacPower, ask_pmset, parse_pmset
from pleb_agent.sensors.session_events import (
    AWAKE,
    MachineState,
    NoSessionEvents,
    SessionListener,
)
from pleb_agent.sensors.windows_power import (
    WindowsEvents,
    WindowsPower,
    WindowsPowerRequest,
)

MAINS, BATTERY, UPS, UNKNOWN = (
    PowerSource.MAINS,
    PowerSource.BATTERY,
    PowerSource.UPS,
    PowerSource.UNKNOWN,
)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ((1, 128, 255), Power(MAINS)),
        ((1, 8, 63), Power(MAINS, 63.0)),
        ((0, 1, 80), Power(BATTERY, 80.0)),
        ((0, 4, 3), Power(BATTERY, 3.0)),
        ((255, 128, 255), Power(MAINS)),
        ((255, 255, 255), Power(UNKNOWN)),
        ((255, 1, 80), Power(UNKNOWN, 80.0)),
        ((0, 255, 255), Power(BATTERY)),
        (None, UNKNOWN_POWER),
    ],
)
def test_windows_power(status, expected):
    assert WindowsPower(lambda: status).read() == expected


def test_windows_is_asked_to_stay_awake_only_while_wanted():
    calls: list[object] = []

    def hold(why):
        calls.append("hold")
        return 7

    async def story():
        keep = KeepAwake(WindowsPowerRequest(hold, calls.append))
        await keep.follow(wanted=True)
        await keep.follow(wanted=True)
        await keep.follow(wanted=False)
        await keep.follow(wanted=False)

    asyncio.run(story())
    assert calls == ["hold", 7]
    WindowsPowerRequest(hold, calls.append).release()
    assert calls == ["hold", 7]


class Windows:
    """Calls back in a thread of its own and waits for the return, as Windows does."""

    def __init__(self):
        self.heard = None
        self.ended = False
        self.subscribed = asyncio.Event()

    def subscribe(self, heard):
        self.heard = heard
        self.subscribed.set()
        return self.end

    def end(self):
        self.ended = True

    async def emit(self, event):
        assert self.heard is not None
        await asyncio.to_thread(self.heard, event)


async def run_events(windows, listener, story, prepare_seconds=30.0):
    events = WindowsEvents(windows.subscribe, prepare_seconds)
    task = asyncio.create_task(events.run(listener))
    await asyncio.wait_for(windows.subscribed.wait(), 30)
    await story()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert windows.ended


def test_windows_waits_until_everything_is_written():
    windows = Windows()
    story: list[object] = []

    async def prepare():
        await asyncio.sleep(0.01)
        story.append("written")

    async def emit():
        await windows.emit(0x4)
        story.append("asleep")
        await windows.emit(0x12)
        await windows.emit(0x7)
        await windows.emit(0xA)  # the battery's state: none of ours
        await asyncio.sleep(0)

    asyncio.run(run_events(windows, SessionListener(story.append, prepare), emit))
    assert story == [MachineState(suspending=True), "written", "asleep", AWAKE, AWAKE]


def test_windows_waits_for_a_limited_time():
    windows, ended = Windows(), threading.Event()

    async def prepare():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def emit():
        await windows.emit(0x4)
        assert await asyncio.to_thread(ended.wait, 30)

    asyncio.run(run_events(windows, SessionListener(lambda _: None, prepare), emit, 0.05))


def drawing(source: str, *batteries: str) -> str:
    lines = "".join(f" -{battery}\n" for battery in batteries)
    return f"Now drawing from '{source}'\n{lines}"


OWN = "InternalBattery-0 (id=4194403)\t"
PMSET = {
    "a desktop": (drawing("AC Power"), Power(MAINS)),
    "charging": (
        drawing("AC Power", f"{OWN}95%; charging; 0:30 remaining present: true"),
        Power(MAINS, 95.0),
    ),
    "on battery": (
        drawing("Battery Power", f"{OWN}41%; discharging; (no estimate) present: true"),
        Power(BATTERY, 41.0),
    ),
    "resting at a threshold": (
        drawing("AC Power", f"{OWN}80%; AC attached; not charging present: true"),
        Power(MAINS, 80.0),
    ),
    "UPS, power cut": (
        drawing("UPS Power", "Back-UPS ES 700 FW:871 (id=1)\t72%; discharging; 0:41 remaining"),
        Power(UPS, 72.0),
    ),
    "a laptop with a UPS": (
        drawing("AC Power", f"{OWN}50%; charging; present: true", "Back-UPS (id=2)\t100%; charged"),
        Power(MAINS, 50.0),
    ),
    "a battery that is not there": (
        drawing("AC Power", f"{OWN}0%; discharging; present: false"),
        Power(MAINS),
    ),
    "another language": ("Gespeist von Netzstrom\n", UNKNOWN_POWER),
    "nothing": ("", UNKNOWN_POWER),
}


@pytest.mark.parametrize("case", PMSET)
def test_macos_power(case):
    text, expected = PMSET[case]
    assert parse_pmset(text) == expected
    assert MacPower(lambda: text).read() == expected


def test_macos_without_an_answer_is_not_known():
    assert MacPower(lambda: None).read() == UNKNOWN_POWER


def test_pmset_may_fail_or_hang(monkeypatch):
    def late(*_, **options):
        raise subprocess.TimeoutExpired("pmset", options["timeout"])

    monkeypatch.setattr(subprocess, "run", late)
    assert ask_pmset() is None

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert ask_pmset() is None


def test_macos_looks_whether_the_power_is_unlimited():
    remaining = [-2.0]
    charger = MacCharger(lambda: remaining[0])
    assert charger.read() is True
    for seconds in (-1.0, 3600.0):
        remaining[0] = seconds
        assert charger.read() is False


def test_without_caffeinate_the_machine_may_sleep():
    async def story():
        for system in (Caffeinate(("/no/such/caffeinate",)), CannotStayAwake()):
            keep = KeepAwake(system)
            await keep.follow(wanted=True)
            assert not keep.holds
            await keep.follow(wanted=False)

    asyncio.run(story())


def test_what_is_wanted_last_wins():
    """It may change while the system takes its time."""
    calls, door = [], threading.Event()

    class Slow:
        def hold(self):
            assert door.wait(30)
            calls.append("hold")

        def release(self):
            calls.append("release")

    async def story():
        keep = KeepAwake(Slow())
        first = asyncio.create_task(keep.follow(wanted=True))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(keep.follow(wanted=False))
        await asyncio.sleep(0.01)
        door.set()
        await asyncio.gather(first, second)
        assert not keep.holds

    asyncio.run(story())
    assert calls in (["hold", "release"], [])


def test_a_cancelled_hold_is_released():
    calls, door = [], threading.Event()

    class Slow:
        def hold(self):
            assert door.wait(30)
            calls.append("hold")

        def release(self):
            calls.append("release")

    async def story():
        keep = KeepAwake(Slow())
        first = asyncio.create_task(keep.follow(wanted=True))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        threading.Timer(0.05, door.set).start()
        await keep.follow(wanted=False)
        assert not keep.holds

    asyncio.run(story())
    assert calls == ["hold", "release"]


def test_no_events_come_where_the_system_reports_none():
    async def story():
        task = asyncio.create_task(NoSessionEvents().run(SessionListener(lambda _: None, story)))
        await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def test_processes_that_are_gone_took_nothing():
    assert process_seconds(2**22 + 1) is None
    assert (process_seconds(os.getpid()) or 0) > 0
