"""The board: owns every sensor, each at its own pace, and says when something changed.

Quick sensors (the processors' load, the charger's plug) are read once a second in one thread,
slow ones (drivers, other processes, D-Bus) in another, so that none of them ever holds up agentd.
Nothing wakes the event loop but a change that a rule could care about.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_agent.core.readings import NOBODY, UNKNOWN_POWER, Gpu, Power, Presence, Readings
from pleb_agent.sensors.lane import Lane
from pleb_agent.sensors.material import is_material
from pleb_agent.sensors.memory import UNKNOWN_MEMORY, Memory
from pleb_agent.sensors.slot import Slot
from pleb_agent.sensors.temperature import COLD, Temperature

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.sensors.sensor import Sensor

__all__ = ["Board", "SeesPresence", "Sensors"]

_REST_SECONDS: Final = 10.0
"""No sensor is read more often than this while nobody needs the readings."""
_NO_GPUS: Final[tuple[Gpu, ...]] = ()
_NO_PROGRAMS: Final[frozenset[str]] = frozenset()
_NO_FILES: Final[tuple[bytes | None, ...]] = ()


class SeesPresence(Protocol):
    """Knows about the user's session: `sensors.presence.PresenceSensor`, or a fake."""

    @property
    def presence(self) -> Presence:
        """What is known now."""


@dataclass(frozen=True)
class Sensors:
    """One of each kind, as `system_sensors` chooses them for this machine."""

    plug: Sensor[tuple[bytes | None, ...]]
    """Changes when a charger comes or goes."""
    power: Sensor[Power]
    load: Sensor[float | None]
    memory: Sensor[Memory]
    temperature: Sensor[Temperature]
    gpus: Sensor[tuple[Gpu, ...]]
    programs: Sensor[frozenset[str]]
    metered: Sensor[bool | None]


class Board:
    """Set `on_change` (called in the event loop) before `run`."""

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
        self._preferences = preferences
        self._presence = presence
        self._is_needed = is_needed
        self._clock = clock
        self._plug = Slot(sensors.plug, _NO_FILES, period_seconds=1)
        self._load = Slot(sensors.load, None, period_seconds=1)
        self._power = Slot(sensors.power, UNKNOWN_POWER, period_seconds=10)
        self._memory = Slot(sensors.memory, UNKNOWN_MEMORY, period_seconds=5)
        self._temperature = Slot(sensors.temperature, COLD, period_seconds=10)
        self._gpus = Slot(sensors.gpus, _NO_GPUS, period_seconds=5)
        self._programs = Slot(sensors.programs, _NO_PROGRAMS, period_seconds=15)
        self._metered = Slot(sensors.metered, None, period_seconds=30)
        self._quick: tuple[Slot[Any], ...] = (self._plug, self._load, self._memory)
        self._slow: tuple[Slot[Any], ...] = (
            self._power,
            self._temperature,
            self._gpus,
            self._programs,
            self._metered,
        )
        self._lane = Lane(clock, self._finished)
        self._told: Readings = self.latest
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: asyncio.Future[None] | None = None

    @property
    def latest(self) -> Readings:
        """What is known now. The wish, the time, disk and traffic are the caller's to add."""
        now = self._clock()
        memory, temperature = self._memory.value(now), self._temperature.value(now)
        return Readings(
            now=0.0,
            presence=NOBODY if self._presence is None else self._presence.presence,
            power=self._power.value(now),
            cpu_others_percent=self._load.value(now),
            gpus=self._gpus.value(now),
            hottest_celsius=temperature.hottest,
            critical_headroom_celsius=temperature.headroom,
            memory_available_bytes=memory.available,
            memory_total_bytes=memory.total,
            worker_memory_bytes=memory.worker,
            programs=self._programs.value(now),
            metered=self._metered.value(now),
        )

    async def run(self) -> None:
        """Read until cancelled. Raises what a sensor raised, which is a defect of it."""
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        ticking = threading.Thread(target=self._tick_forever, name="board", daemon=True)
        ticking.start()
        try:
            await self._failed
        finally:
            self._ended = True
            self._wake.set()
            self._lane.close()

    def look_now(self) -> None:
        """Read everything anew at once: the machine woke up, or the user did something."""
        for slot in (*self._quick, *self._slow):
            slot.due = float("-inf")
        self._wake.set()

    def tick(self, now: float) -> float:
        """Read what is due; return when to be called again."""
        is_new = False
        for slot in self._quick:
            if slot.is_due(now):
                is_new |= slot.read(now)
                if slot is self._plug and is_new:
                    self._power.due = now
        for slot in self._slow:
            if slot.is_due(now):
                slot.queue(now)
                self._lane.submit(slot)
        self._lane.replace_if_stuck()
        if is_new:
            self._compare()
        next_due = min(slot.due for slot in (*self._quick, *self._slow))
        return next_due if self._is_needed() else max(next_due, now + _REST_SECONDS)

    def _tick_forever(self) -> None:
        try:
            while not self._ended:
                again = self.tick(self._clock())
                self._wake.wait(max(0.05, again - self._clock()))
                self._wake.clear()
        except BaseException as failure:  # noqa: BLE001 - it is raised in `run`
            self._finished(is_new=False, error=failure)

    def _finished(self, is_new: bool, error: BaseException | None) -> None:
        if error is not None:
            self._in_loop(self._fail, error)
        elif is_new:
            self._compare()

    def _compare(self) -> None:
        with self._lock:
            latest = self.latest
            if not is_material(self._told, latest, self._preferences()):
                return
            self._told = latest
        self._in_loop(self._tell)

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _tell(self) -> None:
        if not self._ended:
            self.on_change()

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)


def _nothing() -> None:
    """Nobody listens."""
