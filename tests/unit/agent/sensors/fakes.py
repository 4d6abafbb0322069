"""Sensors that say what a test wants, with the contract of the real ones."""

from __future__ import annotations

import asyncio
import threading

from pleb_agent.core.readings import Power, PowerSource
from pleb_agent.sensors.memory import Memory
from pleb_agent.sensors.scheduler import Sensors
from pleb_agent.sensors.session_events import MachineState, SessionListener
from pleb_agent.sensors.system_sensors import other_sensors
from pleb_agent.sensors.temperature import Temperature

GIB = 2**30


class FakeSensor:
    """Says `value`; raises it if it is an exception; waits first where `door` is closed."""

    def __init__(self, value):
        self.value = value
        self.reads = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def read(self):
        self.reads += 1
        self.may_answer.wait(30)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class FakeSessionEvents:
    """Session events that a test sends: late, twice, or never."""

    def __init__(self):
        self.listener: SessionListener | None = None
        self.error: Exception | None = None

    async def run(self, listener):
        self.listener = listener
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    def emit(self, **state):
        assert self.listener is not None
        self.listener.changed(MachineState(**state))


class FakeMachine:
    """Every sensor of a machine on mains that does nothing."""

    def __init__(self):
        self.worker = None
        self.plug = FakeSensor((b"1\n",))
        self.power = FakeSensor(Power(PowerSource.MAINS, 80.0))
        self.load = FakeSensor(1.0)
        self.memory = FakeSensor(Memory(16 * GIB, 8 * GIB))
        self.temperature = FakeSensor(Temperature(50.0, 50.0))
        self.gpus = FakeSensor(())
        self.programs = FakeSensor(frozenset())
        self.metered = FakeSensor(None)
        self.session = FakeSessionEvents()

    def sensors(self, preferences):
        return Sensors(
            worker_pid=lambda: self.worker,
            plug=self.plug,
            power=self.power,
            load=self.load,
            memory=self.memory,
            temperature=self.temperature,
            gpus=self.gpus,
            session=self.session,
            others=other_sensors(preferences, self.programs, self.metered),
        )
