"""The board: owns every sensor, each at its own pace, and says when something changed.

Quick sensors (the processors' load, the charger's plug) are read in one thread, once a second
while a worker runs; slow ones (drivers, other processes, D-Bus) in another, so that none of them
ever holds up agentd. Nothing wakes the event loop but a change that a rule could care about.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_agent.core.readings import NOBODY, UNKNOWN_POWER, Gpu, Power, Presence, Readings
from pleb_agent.sensors.absent import Absent
from pleb_agent.sensors.lane import Lane
from pleb_agent.sensors.material import Material, differs
from pleb_agent.sensors.memory import UNKNOWN_MEMORY, Memory
from pleb_agent.sensors.session_events import (
    AWAKE,
    MachineState,
    SessionEvents,
    SessionListener,
)
from pleb_agent.sensors.sleeper import Sleeper
from pleb_agent.sensors.slot import Pace, Slot
from pleb_agent.sensors.temperature import COLD, Temperature

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.sensors.sensor import Sensor, WorkerPid

__all__ = ["Board", "SeesPresence", "Sensors"]

_PACE_SECONDS: Final = 5.0
"""So late, at most, the board sees that a pause has ended or that a worker runs."""
_NO_GPUS: Final[tuple[Gpu, ...]] = ()
_NO_PROGRAMS: Final[frozenset[str]] = frozenset()


class SeesPresence(Protocol):
    """Knows about the user's session: `sensors.presence.PresenceSensor`, or a fake."""

    @property
    def presence(self) -> Presence:
        """What is known now."""


@dataclass(frozen=True)
class Sensors:
    """One of each kind, as `system_sensors` chooses them for this machine."""

    worker_pid: WorkerPid
    plug: Sensor[object]
    """Changes when a charger comes or goes."""
    power: Sensor[Power]
    load: Sensor[float | None]
    memory: Sensor[Memory]
    temperature: Sensor[Temperature]
    gpus: Sensor[tuple[Gpu, ...]]
    programs: Sensor[frozenset[str]]
    metered: Sensor[bool | None]
    lid: Sensor[bool | None]
    session: SessionEvents


class _Slots:
    """Each sensor with its periods in seconds: quick, calm, at rest."""

    def __init__(self, sensors: Sensors, preferences: Callable[[], Preferences]) -> None:
        material = Material(preferences)

        def uses_gpu() -> bool:  # asking one that sleeps would wake it: hours of battery
            return preferences().use_gpu

        def has_programs() -> bool:
            return bool(preferences().pause_programs)

        self.plug = Slot(sensors.plug, None, (1, 5, 30), differs)
        self.load = Slot(sensors.load, None, (1, 5, 30), material.load)
        self.memory = Slot(sensors.memory, UNKNOWN_MEMORY, (5, 10, 60), material.memory)
        self.power = Slot(sensors.power, UNKNOWN_POWER, (30, 30, 60), material.power)
        self.temperature = Slot(sensors.temperature, COLD, (10, 30, 60), material.temperature)
        self.gpus = Slot(sensors.gpus, _NO_GPUS, (5, 10, 60), material.gpus, wanted=uses_gpu)
        self.programs = Slot(
            sensors.programs, _NO_PROGRAMS, (15, 30, 60), differs, wanted=has_programs
        )
        self.metered = Slot(sensors.metered, None, (30, 30, 60), differs)
        self.lid = Slot(sensors.lid, None, (30, 60, 60), differs)
        self.quick: tuple[Slot[Any], ...] = (self.plug, self.load, self.memory)
        slow: tuple[Slot[Any], ...] = (
            self.power,
            self.temperature,
            self.gpus,
            self.programs,
            self.metered,
            self.lid,
        )
        self.slow = tuple(slot for slot in slow if not isinstance(slot.sensor, Absent))
        self.all: tuple[Slot[Any], ...] = (*self.quick, *self.slow)

    def readings(self, now: float, presence: Presence, machine: MachineState) -> Readings:
        memory, temperature = self.memory.value(now), self.temperature.value(now)
        return Readings(
            now=0.0,
            presence=presence,
            power=self.power.value(now),
            lid_closed=self.lid.value(now) is True,
            suspending=machine.suspending,
            shutting_down=machine.shutting_down,
            cpu_others_percent=self.load.value(now),
            gpus=self.gpus.value(now),
            hottest_celsius=temperature.hottest,
            critical_headroom_celsius=temperature.headroom,
            memory_available_bytes=memory.available,
            memory_total_bytes=memory.total,
            worker_memory_bytes=memory.worker,
            programs=self.programs.value(now),
            metered=self.metered.value(now),
        )


class Board:
    """Set `on_change` and `on_suspend` before `run`; both are called in the event loop."""

    def __init__(
        self,
        sensors: Sensors,
        preferences: Callable[[], Preferences],
        *,
        presence: SeesPresence | None = None,
        is_needed: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_change: Callable[[], None] = _nothing
        self.on_suspend: Callable[[], Awaitable[None]] = _nothing_to_prepare
        """Called after `on_change`, before the machine sleeps or shuts down; it may take as long
        as the system waits: five seconds on most, two on Windows."""
        self._worker_pid = sensors.worker_pid
        self._presence = presence
        self._is_needed = is_needed
        self._clock = clock
        self._session = sensors.session
        self._slots = _Slots(sensors, preferences)
        self._paced = Pace.CALM
        self._machine = AWAKE
        self._lane = Lane(clock, self._finished)
        self._sleeper = Sleeper()
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: asyncio.Future[None] | None = None

    @property
    def latest(self) -> Readings:
        """What is known now. The wish, the time, disk and traffic are the caller's to add."""
        presence = NOBODY if self._presence is None else self._presence.presence
        return self._slots.readings(self._clock(), presence, self._machine)

    async def run(self) -> None:
        """Read until cancelled. Raises what a sensor raised, which is a defect of it."""
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        threading.Thread(target=self._tick_forever, name="board", daemon=True).start()
        listener = SessionListener(self._machine_changed, self._prepare)
        session = asyncio.create_task(self._session.run(listener))
        session.add_done_callback(self._session_ended)
        try:
            await self._failed
        finally:
            self._ended = True
            self._sleeper.wake()
            self._lane.close()
            session.cancel()
            await asyncio.gather(session, return_exceptions=True)

    def look_now(self) -> None:
        """Read everything anew at once: the user did something, or the machine woke up."""
        for slot in self._slots.all:
            slot.hurry()
        self._sleeper.wake()

    def tick(self, now: float) -> float:
        """Read what is due; return when to be called again."""
        slots, moved = self._slots, False
        self._keep_pace()
        for slot in slots.quick:
            if now >= slot.due and slot.read(now):
                if slot is slots.plug:
                    slots.power.hurry()
                else:
                    moved = True
        for slot in slots.slow:
            if now >= slot.due and not slot.skip(now):
                slot.queue(now)
                self._lane.submit(slot)
        stuck = self._lane.take_stuck()
        if moved or (stuck is not None and stuck.lose()):
            self._in_loop(self._tell)
        return min([now + _PACE_SECONDS, *[slot.due for slot in slots.all]])

    def _keep_pace(self) -> None:
        if not self._is_needed():
            pace = Pace.REST
        else:
            pace = Pace.CALM if self._worker_pid() is None else Pace.QUICK
        if pace is not self._paced:
            self._paced = pace
            for slot in self._slots.all:
                slot.keep(pace)

    def _tick_forever(self) -> None:
        try:
            while not self._ended:
                again = self.tick(self._clock())
                self._sleeper.sleep(again - self._clock())
        except Exception as failure:  # noqa: BLE001 - it is raised in `run`
            self._finished(moved=False, error=failure)

    def _finished(self, moved: bool, error: Exception | None) -> None:
        if error is not None:
            self._in_loop(self._fail, error)
        elif moved:
            self._in_loop(self._tell)

    def _machine_changed(self, state: MachineState) -> None:
        woke = self._machine.suspending and not state.suspending
        self._machine = state
        if woke:
            self.look_now()
        self._tell()

    def _session_ended(self, session: asyncio.Task[None]) -> None:
        error = None if session.cancelled() else session.exception()
        if error is not None:
            self._fail(error)

    async def _prepare(self) -> None:
        await self.on_suspend()

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None and not self._ended:
            self._loop.call_soon_threadsafe(call, *arguments)

    def _tell(self) -> None:
        if not self._ended:
            self.on_change()

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)


def _nothing() -> None:
    """Nobody listens."""


async def _nothing_to_prepare() -> None:
    """Nobody has anything to write."""
