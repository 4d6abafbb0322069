"""The sensors' scheduler with fakes: paces, changes, hangs, sleep, and errors."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import Gpu, Power, PowerSource, Presence, PresenceKind
from pleb_agent.sensors.memory import Memory
from pleb_agent.sensors.scheduler import SensorScheduler
from pleb_agent.sensors.sensor import Unavailable
from pleb_agent.sensors.temperature import Temperature
from tests.unit.agent.sensors.fakes import GIB, FakeMachine


class World:
    def __init__(self, **preferences):
        self.machine = FakeMachine()
        self.preferences = Preferences(**preferences)
        self.needed = True
        self.now = 1000.0
        self.changes = 0
        self.notified = asyncio.Event()

    def scheduler(self, **options):
        scheduler = SensorScheduler(
            self.machine.sensors(lambda: self.preferences),
            lambda: self.preferences,
            is_needed=lambda: self.needed,
            clock=lambda: self.now,
            **options,
        )
        scheduler.on_change = self.changed
        return scheduler

    def changed(self):
        self.changes += 1
        self.notified.set()

    def pass_seconds(self, scheduler, seconds):
        """Tick as often as the scheduler wants to."""
        end = self.now + seconds
        while (again := scheduler.tick(self.now)) <= end:
            self.now = max(again, self.now + 0.001)
        self.now = end

    async def until_notified(self):
        await asyncio.wait_for(self.notified.wait(), 30)
        self.notified.clear()


@asynccontextmanager
async def running(scheduler):
    task = asyncio.create_task(scheduler.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


@pytest.mark.parametrize(
    ("worker", "needed", "seconds", "reads"),
    [(4242, True, 60, 61), (4242, False, 300, 11), (None, True, 60, 13), (None, False, 300, 11)],
)
def test_the_load_is_read_as_often_as_it_matters(worker, needed, seconds, reads):
    world = World()
    world.machine.worker, world.needed = worker, needed
    world.pass_seconds(world.scheduler(), seconds)
    assert abs(world.machine.load.reads - reads) <= 1
    assert world.machine.plug.reads == world.machine.load.reads


def test_a_worker_that_starts_quickens_the_pace():
    world = World()
    scheduler = world.scheduler()
    world.pass_seconds(scheduler, 20)
    calm = world.machine.load.reads
    world.machine.worker = 4242
    world.pass_seconds(scheduler, 20)
    assert world.machine.load.reads - calm >= 19


def test_the_end_of_a_pause_is_seen_within_seconds():
    world = World()
    world.needed = False
    scheduler = world.scheduler()
    world.pass_seconds(scheduler, 100)
    reads = world.machine.load.reads
    world.needed = True
    world.pass_seconds(scheduler, 6)
    assert world.machine.load.reads > reads


def test_a_plug_that_is_pulled_reads_the_power_at_once():
    async def story():
        world = World()
        world.machine.worker = 4242
        scheduler = world.scheduler()
        async with running(scheduler):
            await until(lambda: scheduler.latest.power.source is PowerSource.MAINS)
            reads = world.machine.power.reads
            world.machine.power.value = Power(PowerSource.BATTERY, 80.0)
            world.machine.plug.value = (b"0\n",)
            world.now += 1
            scheduler.wake()
            await until(lambda: scheduler.latest.power.source is PowerSource.BATTERY)
            assert world.machine.power.reads == reads + 1

    asyncio.run(story())


def test_a_charge_below_the_limit_is_seen_within_seconds_while_a_worker_runs():
    async def story():
        world = World()
        world.machine.worker = 4242
        world.machine.power.value = Power(PowerSource.BATTERY, 61.0)
        scheduler = world.scheduler()
        async with running(scheduler):
            await until(lambda: scheduler.latest.power.percent == 61.0)
            world.machine.power.value = Power(PowerSource.BATTERY, 59.0)
            world.now += 5
            scheduler.wake()
            await until(lambda: scheduler.latest.power.percent == 59.0)

    asyncio.run(story())


def test_everything_that_the_sensors_say_is_in_the_readings():
    async def story():
        world = World(use_gpu=True, pause_programs=["game"])
        machine = world.machine
        machine.load.value = 33.0
        machine.memory.value = Memory(16 * GIB, 4 * GIB, GIB)
        machine.temperature.value = Temperature(70.0, 30.0)
        machine.gpus.value = (Gpu("RTX", 5.0, 1, 2),)
        machine.programs.value = frozenset({"game"})
        machine.metered.value = True
        presence = Presence(PresenceKind.READABLE, last_input_at=5.0)
        scheduler = world.scheduler(presence=SimpleNamespace(presence=presence))
        async with running(scheduler):
            await until(lambda: scheduler.latest.metered)
            said = scheduler.latest
        assert said.presence is presence
        assert said.power == Power(PowerSource.MAINS, 80.0)
        assert said.cpu_others_percent == 33.0
        assert (said.hottest_celsius, said.critical_headroom_celsius) == (70.0, 30.0)
        assert (said.memory_total_bytes, said.memory_available_bytes) == (16 * GIB, 4 * GIB)
        assert said.worker_memory_bytes == GIB
        assert said.gpus == machine.gpus.value
        assert said.programs == {"game"}
        assert said.metered is True
        assert not said.suspending
        assert not said.shutting_down

    asyncio.run(story())


def test_graphics_processors_and_programs_are_read_only_where_somebody_asks():
    async def story():
        world = World()
        scheduler = world.scheduler()
        async with running(scheduler):
            await until(lambda: world.machine.metered.reads)
        assert world.machine.gpus.reads == world.machine.programs.reads == 0

    asyncio.run(story())


def test_only_large_changes_call_back():
    async def story():
        world = World()
        scheduler = world.scheduler()
        async with running(scheduler):
            await until(lambda: world.machine.metered.reads and scheduler.latest.hottest_celsius)
            await asyncio.sleep(0.05)
            world.notified.clear()
            before = world.changes
            for load in (2.0, 3.0, 4.0):
                world.machine.load.value = load
                world.now += 5
                reads = world.machine.load.reads
                scheduler.wake()
                await until(lambda reads=reads: world.machine.load.reads > reads)
            assert scheduler.latest.cpu_others_percent == 4.0
            assert world.changes == before
            world.machine.load.value = 70.0
            world.now += 5
            scheduler.wake()
            await world.until_notified()
            assert scheduler.latest.cpu_others_percent == 70.0

    asyncio.run(story())


def test_a_hanging_driver_is_unknown_and_the_others_are_read():
    async def story():
        world = World()
        scheduler = world.scheduler()
        async with running(scheduler):
            await until(
                lambda: (
                    scheduler.latest.hottest_celsius == 50.0 and scheduler.latest.metered is None
                )
            )
            await until(lambda: world.machine.metered.reads == 1)
            world.machine.temperature.may_answer.clear()
            world.now += 60
            scheduler.wake()
            await until(lambda: world.machine.temperature.reads == 2)
            await asyncio.sleep(0.05)
            world.notified.clear()
            world.now += 6
            scheduler.wake()
            await world.until_notified()
            assert scheduler.latest.hottest_celsius is None
            world.machine.metered.value = True
            world.now += 60
            scheduler.wake()
            await until(lambda: scheduler.latest.metered)
            assert scheduler.latest.hottest_celsius is None
            assert world.machine.temperature.reads == 2
            world.machine.temperature.may_answer.set()
            await until(lambda: scheduler.latest.hottest_celsius == 50.0)

    asyncio.run(story())


def test_look_now_reads_everything_at_once():
    async def story():
        world = World(use_gpu=True, pause_programs=["x"])
        world.needed = False
        scheduler = world.scheduler()
        machine = world.machine
        quick = (machine.plug, machine.load, machine.memory)
        every = (
            *quick,
            machine.power,
            machine.gpus,
            machine.temperature,
            machine.programs,
            machine.metered,
        )
        async with running(scheduler):
            await until(lambda: all(sensor.reads == 1 for sensor in every))
            await asyncio.sleep(0.05)
            scheduler.look_now()
            await until(lambda: all(sensor.reads == 2 for sensor in every))

    asyncio.run(story())


def test_sleep_is_reported_prepared_for_and_followed_by_a_read():
    async def story():
        world = World()
        scheduler = world.scheduler()
        story = []

        def changed():
            story.append(f"suspending={scheduler.latest.suspending}")

        async def suspend():
            story.append("written")

        scheduler.on_suspend = suspend
        async with running(scheduler):
            await until(lambda: world.machine.metered.reads and world.machine.session.listener)
            await asyncio.sleep(0.05)
            scheduler.on_change = changed
            assert world.machine.session.listener is not None
            session, reads = world.machine.session, world.machine.load.reads
            session.emit(suspending=True)
            await world.machine.session.listener.prepare()
            assert story == ["suspending=True", "written"]
            session.emit()
            await until(lambda: world.machine.load.reads > reads)
            assert story[2] == "suspending=False"
            session.emit(shutting_down=True)
            assert scheduler.latest.shutting_down

    asyncio.run(story())


@pytest.mark.parametrize("name", ["load", "power"])
def test_a_defect_of_a_sensor_ends_the_run(name):
    async def story():
        world = World()
        getattr(world.machine, name).value = ZeroDivisionError("a defect")
        with pytest.raises(ZeroDivisionError, match="a defect"):
            await asyncio.wait_for(world.scheduler().run(), 30)

    asyncio.run(story())


def test_a_defect_of_the_session_s_events_ends_the_run():
    async def story():
        world = World()
        world.machine.session.error = ZeroDivisionError("a defect")
        with pytest.raises(ZeroDivisionError, match="a defect"):
            await asyncio.wait_for(world.scheduler().run(), 30)

    asyncio.run(story())


def test_absent_sensors_start_no_thread_of_their_own():
    world = World()
    for name in ("power", "temperature", "gpus", "programs", "metered"):
        setattr(world.machine, name, Unavailable(None))
    before = set(threading.enumerate())
    world.pass_seconds(world.scheduler(), 60)
    assert set(threading.enumerate()) <= before


def test_after_the_end_nothing_is_reported():
    async def story():
        world = World()
        scheduler = world.scheduler()
        async with running(scheduler):
            await until(lambda: world.machine.metered.reads)
        await asyncio.sleep(0.05)
        before = world.changes
        world.machine.load.value = 90.0
        scheduler.tick(world.now + 100)
        await asyncio.sleep(0.05)
        assert world.changes == before

    asyncio.run(story())
