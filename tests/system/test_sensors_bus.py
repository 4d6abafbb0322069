"""Sleep, shutdown, staying awake and metered networks, on a real message bus."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from pleb_agent.core.readings import Power, PowerSource
from pleb_agent.sensors.bus_sensors import (
    NetworkManagerMetered,
    PowerWithUps,
    SystemBus,
)
from pleb_agent.sensors.keep_awake import KeepAwake
from pleb_agent.sensors.logind import LogindBlock, LogindEvents
from pleb_agent.sensors.power import LinuxPower
from pleb_agent.sensors.session_events import AWAKE, MachineState, SessionListener
from tests.system.desktop import session_bus
from tests.system.played_logind import played_logind

pytestmark = pytest.mark.system

SLEEP, SHUTDOWN = "PrepareForSleep", "PrepareForShutdown"
ASLEEP, ENDING = MachineState(suspending=True), MachineState(shutting_down=True)


@pytest.fixture
def address():
    with session_bus() as bus:
        yield bus.address


@pytest.fixture
def logind(address):
    with played_logind(address) as played:
        yield played


class Listener:
    """Writes down what it hears; `prepare` takes as long as `may_finish` is not set."""

    def __init__(self):
        self.states = []
        self.prepared = []
        self.may_finish = asyncio.Event()
        self.may_finish.set()

    def changed(self, state):
        self.states.append(state)

    async def prepare(self):
        self.prepared.append("begun")
        try:
            await self.may_finish.wait()
            self.prepared.append("done")
        except asyncio.CancelledError:
            self.prepared.append("cancelled")
            raise


@asynccontextmanager
async def watching(address, retry_seconds=0.1):
    listener = Listener()
    events = LogindEvents(address, retry_seconds=retry_seconds)
    task = asyncio.create_task(events.run(SessionListener(listener.changed, listener.prepare)))
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seen(condition, what):
    """Wait until it holds; the event loop goes on meanwhile."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never: {what}")


@contextmanager
def asking(address, timeout_seconds=2.0):
    bus = SystemBus(address, timeout_seconds)
    try:
        yield bus
    finally:
        bus.close()


async def held(logind, count=1, mode="delay"):
    await seen(lambda: len(logind.held(mode)) == count, f"{count} inhibitors that {mode}")


async def told(listener, states):
    """Wait until the listener was told exactly this: logind may know of an inhibitor sooner."""
    await seen(lambda: len(listener.states) >= len(states), f"{len(states)} states")
    assert listener.states == states


def test_sleep_waits_until_everything_is_written(address, logind):
    async def story():
        async with watching(address) as listener:
            await held(logind)
            assert [(one.what, one.who) for one in logind.held()] == [
                ("sleep:shutdown", "Pleb-Cluster")
            ]
            listener.may_finish.clear()
            logind.emit(SLEEP, begins=True)
            await seen(lambda: listener.prepared == ["begun"], "prepare")
            await told(listener, [ASLEEP])
            assert len(logind.held()) == 1, "it was let go before everything was written"
            listener.may_finish.set()
            await held(logind, 0)
            assert listener.prepared == ["begun", "done"]
            logind.emit(SLEEP, begins=False)
            await held(logind)
            await told(listener, [ASLEEP, AWAKE])
        await held(logind, 0)

    asyncio.run(story())


def test_a_second_sleep_is_delayed_as_the_first(address, logind):
    async def story():
        async with watching(address) as listener:
            for _ in range(3):
                await held(logind)
                logind.emit(SLEEP, begins=True)
                await held(logind, 0)
                logind.emit(SLEEP, begins=False)
            await held(logind)
            await told(listener, [ASLEEP, AWAKE] * 3)
            assert listener.prepared == ["begun", "done"] * 3

    asyncio.run(story())


def test_a_slow_checkpoint_does_not_hold_up_sleep(address, logind):
    logind.delay_seconds = 0.5

    async def story():
        async with watching(address) as listener:
            await held(logind)
            listener.may_finish.clear()
            began = time.monotonic()
            logind.emit(SLEEP, begins=True)
            await held(logind, 0)
            assert time.monotonic() - began >= 0.3
            await seen(lambda: listener.prepared == ["begun", "cancelled"], "the end of writing")

    asyncio.run(story())


def test_shutdown_is_reported_and_may_be_cancelled(address, logind):
    async def story():
        async with watching(address) as listener:
            await held(logind)
            logind.emit(SHUTDOWN, begins=True)
            await held(logind, 0)
            logind.emit(SHUTDOWN, begins=False)
            await held(logind)
            await told(listener, [ENDING, AWAKE])
            assert listener.prepared == ["begun", "done"]

    asyncio.run(story())


def test_other_signals_mean_nothing(address, logind):
    async def story():
        async with watching(address) as listener:
            await held(logind)
            logind.emit("PrepareForTea", begins=True)
            logind.emit(SLEEP, begins=True)
            await held(logind, 0)
            await told(listener, [ASLEEP])

    asyncio.run(story())


def test_sleep_is_reported_even_if_logind_gives_no_inhibitor(address, logind):
    logind.refuses = True

    async def story():
        async with watching(address) as listener:
            for _ in range(200):  # until it listens
                logind.emit(SLEEP, begins=True)
                await asyncio.sleep(0.05)
                if listener.states:
                    break
            assert listener.states[0] == ASLEEP
            await seen(lambda: listener.prepared[:2] == ["begun", "done"], "prepare")

    asyncio.run(story())


def test_without_a_bus_it_waits_for_one(tmp_path):
    async def story():
        socket = tmp_path / "bus"
        async with watching(f"unix:path={socket}") as listener:
            await asyncio.sleep(0.3)
            with session_bus() as bus:
                path = bus.address.partition("path=")[2].partition(",")[0]
                with played_logind(bus.address) as played:
                    socket.symlink_to(path)
                    await held(played)
                    played.emit(SLEEP, begins=True)
                    await seen(lambda: listener.states == [ASLEEP], "sleep")

    asyncio.run(story())


def test_a_new_bus_is_watched_as_the_old_one(tmp_path):
    socket = tmp_path / "bus"

    async def story():
        async with watching(f"unix:path={socket}") as listener:
            for round_number in (1, 2):
                with session_bus() as bus, played_logind(bus.address) as played:
                    socket.unlink(missing_ok=True)
                    socket.symlink_to(bus.address.partition("path=")[2].partition(",")[0])
                    await held(played)
                    played.emit(SLEEP, begins=True)
                    states = [ASLEEP] * round_number
                    await seen(lambda states=states: listener.states == states, "sleep")

    asyncio.run(story())


def test_the_thread_ends_with_the_task(address, logind):
    async def story():
        async with watching(address):
            await held(logind)
        await seen(
            lambda: "logind" not in {thread.name for thread in threading.enumerate()}, "its end"
        )

    asyncio.run(story())


def test_the_machine_is_kept_awake_only_while_wanted(address, logind):
    async def story():
        keep = KeepAwake(LogindBlock(address))
        await keep.follow(wanted=False)
        assert logind.inhibitors == []
        await keep.follow(wanted=True)
        await keep.follow(wanted=True)
        await held(logind, 1, "block")
        assert [(one.what, one.why) for one in logind.inhibitors] == [
            ("idle:sleep", "A unit is being computed")
        ]
        await keep.follow(wanted=False)
        await held(logind, 0, "block")
        await keep.follow(wanted=True)
        await held(logind, 1, "block")
        await keep.follow(wanted=False)
        await held(logind, 0, "block")
        assert not keep.holds

    asyncio.run(story())


def test_a_refusal_to_stay_awake_is_lived_with(address, logind):
    logind.refuses = True
    with pytest.raises(OSError, match="refuses"):
        LogindBlock(address).hold()
    with pytest.raises(OSError, match="No message bus answers"):
        LogindBlock("unix:path=/no/such/bus").hold()

    async def story():
        keep = KeepAwake(LogindBlock(address))
        await keep.follow(wanted=True)
        assert not keep.holds
        await keep.follow(wanted=False)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("value", "expected"), [(0, None), (1, True), (2, False), (3, True), (4, False), (9, None)]
)
def test_metered_networks(address, logind, value, expected):
    logind.properties["Metered"] = "u", value
    with asking(address) as bus:
        assert NetworkManagerMetered(bus).read() is expected


@pytest.mark.parametrize(
    ("supplies", "told", "expected"),
    [
        ({}, {}, Power(PowerSource.MAINS)),
        ({}, {"OnBattery": ("b", False), "Percentage": ("d", 90.0)}, Power(PowerSource.MAINS)),
        ({}, {"OnBattery": ("b", True), "Percentage": ("d", 64.0)}, Power(PowerSource.UPS, 64.0)),
        ({}, {"OnBattery": ("b", True)}, Power(PowerSource.UPS)),
        (
            {"BAT0": {"type": "Battery", "status": "Discharging", "capacity": "50"}},
            {"OnBattery": ("b", True), "Percentage": ("d", 64.0)},
            Power(PowerSource.BATTERY, 50.0),
        ),
    ],
)
def test_a_ups_that_only_upower_knows(address, logind, tmp_path, supplies, told, expected):
    logind.properties.update(told)
    for name, files in supplies.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    with asking(address) as bus:
        assert PowerWithUps(LinuxPower(tmp_path), bus).read() == expected


def test_upower_is_asked_less_often_than_the_kernel(address, logind, tmp_path):
    now = [0.0]
    logind.properties["OnBattery"] = "b", False
    with asking(address) as bus:
        sensor = PowerWithUps(LinuxPower(tmp_path), bus, lambda: now[0])
        assert sensor.read().source is PowerSource.MAINS
        logind.properties["OnBattery"] = "b", True
        now[0] = 20.0
        assert sensor.read().source is PowerSource.MAINS
        now[0] = 26.0
        assert sensor.read().source is PowerSource.UPS


def test_what_no_service_reports_is_unknown(address, logind, tmp_path):
    with asking(address) as bus:
        assert NetworkManagerMetered(bus).read() is None
    with asking(f"unix:path={tmp_path}/missing") as nowhere:
        assert NetworkManagerMetered(nowhere).read() is None


def test_a_service_that_never_answers_costs_only_the_time_out(address, logind):
    logind.properties["Metered"] = "u", 1
    with asking(address, timeout_seconds=0.2) as bus:
        sensor = NetworkManagerMetered(bus)
        assert sensor.read() is True
        logind.is_mute = True
        began = time.monotonic()
        assert sensor.read() is None
        assert time.monotonic() - began < 5
        logind.is_mute = False
        assert sensor.read() is True


def open_files():
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(address, logind):
    before = open_files()

    async def story():
        async with watching(address):
            await held(logind)
            logind.emit(SLEEP, begins=True)
            await held(logind, 0)
        await seen(
            lambda: "logind" not in {thread.name for thread in threading.enumerate()}, "its end"
        )

    asyncio.run(story())
    pipes = len(logind.inhibitors)  # the played logind keeps its own ends
    assert open_files() == before + pipes
