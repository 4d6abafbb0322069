"""Reads every sensor at its own pace, and calls back when a reading has changed.

Quick sensors (the processors' load, the charger's plug) are read in one thread, once a second
while a worker runs; slow ones (drivers, other processes, D-Bus) in another, so that none of them
ever delays agentd. Only a change that a rule could care about wakes the event loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_agent.core.readings import NO_SESSION, UNKNOWN_POWER, Gpu, Power, Presence, Readings
from pleb_agent.sensors.change_threshold import ChangeThreshold, differs
from pleb_agent.sensors.memory import UNKNOWN_MEMORY, Memory
from pleb_agent.sensors.scheduled_sensor import Pace, ScheduledSensor
from pleb_agent.sensors.sensor import Unavailable
from pleb_agent.sensors.session_events import (
    AWAKE,
    MachineState,
    SessionEvents,
    SessionListener,
)
from pleb_agent.sensors.temperature import UNKNOWN_TEMPERATURE, Temperature

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.sensors.sensor import Sensor, WorkerPid

__all__ = ["HasPresence", "SensorScheduler", "Sensors", "Sleeper", "SlowSensorThread"]

_PACE_SECONDS: Final = 5.0
"""After this time, at most, the scheduler sees that a pause has ended or that a worker runs."""
_LEAST_SLEEP_SECONDS: Final = 0.05
_NO_GPUS: Final[tuple[Gpu, ...]] = ()


class HasPresence(Protocol):
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
    session: SessionEvents
    others: Mapping[str, ScheduledSensor[Any]]
    """By the field of `Readings` that the sensor fills: they need nothing of the scheduler but to
    be read, in the slow thread. A new sensor is one more entry here."""


class SensorScheduler:
    """Set `on_change` and `on_suspend` before `run`; both are called in the event loop."""

    def __init__(
        self,
        sensors: Sensors,
        preferences: Callable[[], Preferences],
        *,
        presence: HasPresence | None = None,
        is_needed: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.on_suspend: Callable[[], Coroutine[Any, Any, None]] = lambda: asyncio.sleep(0)
        """Called after `on_change`, before the machine sleeps or shuts down; it may take as long
        as the system waits: five seconds on most, two on Windows."""
        self._worker_pid = sensors.worker_pid
        self._presence = presence
        self._is_needed = is_needed
        self._clock = clock
        self._session = sensors.session
        self._pace = Pace.CALM
        self._machine = AWAKE
        self._slow_thread = SlowSensorThread(clock, self._finished)
        self._sleeper = Sleeper()
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: asyncio.Future[None] | None = None

        threshold = ChangeThreshold(preferences)
        # Each sensor with its periods in seconds: quick, calm, at rest.
        self._plug = ScheduledSensor(sensors.plug, None, (1, 5, 30), differs)
        self._load = ScheduledSensor(sensors.load, None, (1, 5, 30), threshold.load)
        self._memory = ScheduledSensor(
            sensors.memory, UNKNOWN_MEMORY, (5, 10, 60), threshold.memory
        )
        self._power = ScheduledSensor(sensors.power, UNKNOWN_POWER, (5, 30, 60), threshold.power)
        self._temperature = ScheduledSensor(
            sensors.temperature, UNKNOWN_TEMPERATURE, (10, 30, 60), threshold.temperature
        )
        self._gpus = ScheduledSensor(
            sensors.gpus,
            _NO_GPUS,
            (5, 10, 60),
            threshold.gpus,
            # Asking a sleeping one would wake it, which costs hours of battery.
            wanted=lambda: preferences().use_gpu,
        )
        self._others = sensors.others
        self._quick: tuple[ScheduledSensor[Any], ...] = (self._plug, self._load, self._memory)
        slow: tuple[ScheduledSensor[Any], ...] = (
            self._power,
            self._temperature,
            self._gpus,
            *self._others.values(),
        )
        self._slow = tuple(each for each in slow if not isinstance(each.sensor, Unavailable))
        self._all: tuple[ScheduledSensor[Any], ...] = (*self._quick, *self._slow)

    @property
    def latest(self) -> Readings:
        """What is known now. The caller adds the user's request, the time, disk and traffic."""
        now = self._clock()
        memory, temperature = self._memory.value(now), self._temperature.value(now)
        return Readings(
            now=0.0,
            presence=NO_SESSION if self._presence is None else self._presence.presence,
            power=self._power.value(now),
            suspending=self._machine.suspending,
            shutting_down=self._machine.shutting_down,
            cpu_others_percent=self._load.value(now),
            gpus=self._gpus.value(now),
            hottest_celsius=temperature.hottest,
            critical_headroom_celsius=temperature.headroom,
            memory_available_bytes=memory.available,
            memory_total_bytes=memory.total,
            worker_memory_bytes=memory.worker,
            **{name: each.value(now) for name, each in self._others.items()},
        )

    async def run(self) -> None:
        """Read until cancelled. Raises what a sensor raised, which is a defect of it."""
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        threading.Thread(target=self._tick_forever, name="quick-sensors", daemon=True).start()
        listener = SessionListener(self._machine_changed, self.on_suspend)
        session = asyncio.create_task(self._session.run(listener))
        session.add_done_callback(self._session_ended)
        try:
            await self._failed
        finally:
            self._ended = True
            self._sleeper.wake()
            self._slow_thread.close()
            session.cancel()
            await asyncio.gather(session, return_exceptions=True)

    def look_now(self) -> None:
        """Read every sensor at once: the user did something, or the machine woke up."""
        for each in self._all:
            each.hurry()
        self.wake()

    def wake(self) -> None:
        """End the wait for the next sensor that is due: the clock has moved."""
        self._sleeper.wake()

    def tick(self, now: float) -> float:
        """Read what is due; return when to be called again."""
        self._set_pace()
        changed = False
        for each in self._quick:
            if now >= each.due and each.read(now):
                if each is self._plug:
                    self._power.hurry()
                else:
                    changed = True
        for each in self._slow:
            if now >= each.due and not each.skip(now):
                each.queue(now)
                self._slow_thread.submit(each)
        stuck = self._slow_thread.take_stuck()
        if changed or (stuck is not None and stuck.lose()):
            self._in_loop(self._notify)
        return min([now + _PACE_SECONDS, *[each.due for each in self._all]])

    def _set_pace(self) -> None:
        if not self._is_needed():
            pace = Pace.REST
        else:
            pace = Pace.CALM if self._worker_pid() is None else Pace.QUICK
        if pace is not self._pace:
            self._pace = pace
            for each in self._all:
                each.set_pace(pace)

    def _tick_forever(self) -> None:
        try:
            while not self._ended:
                again = self.tick(self._clock())
                self._sleeper.sleep(again - self._clock())
        except Exception as failure:  # noqa: BLE001 - it is raised in `run`
            self._finished(changed=False, error=failure)

    def _finished(self, changed: bool, error: Exception | None) -> None:
        if error is not None:
            self._in_loop(self._fail, error)
        elif changed:
            self._in_loop(self._notify)

    def _machine_changed(self, state: MachineState) -> None:
        woke = self._machine.suspending and not state.suspending
        self._machine = state
        if woke:
            self.look_now()
        self._notify()

    def _session_ended(self, session: asyncio.Task[None]) -> None:
        error = None if session.cancelled() else session.exception()
        if error is not None:
            self._fail(error)

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None and not self._ended:
            self._loop.call_soon_threadsafe(call, *arguments)

    def _notify(self) -> None:
        if not self._ended:
            self.on_change()

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)


class SlowSensorThread:
    """Reads slow sensors one after another.

    A driver that hangs costs its own sensor only: the others go on in a fresh thread.

    Args:
        clock: monotonic seconds.
        finished: called in the thread with whether the value has changed, and what was raised.
    """

    def __init__(
        self, clock: Callable[[], float], finished: Callable[[bool, Exception | None], None]
    ) -> None:
        self._clock = clock
        self._finished = finished
        self._waiting: queue.SimpleQueue[ScheduledSensor[Any] | None] = queue.SimpleQueue()
        self._reading: ScheduledSensor[Any] | None = None
        self._thread: threading.Thread | None = None

    def submit(self, each: ScheduledSensor[Any]) -> None:
        """Have the sensor read soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="slow-sensors", daemon=True)
            self._thread.start()
        self._waiting.put(each)

    def take_stuck(self) -> ScheduledSensor[Any] | None:
        """Return the sensor that is read now if it is overdue; the others go to a new thread."""
        stuck = self._reading
        if stuck is None or not stuck.is_overdue(self._clock()):
            return None
        old, self._waiting = self._waiting, queue.SimpleQueue()
        self._reading = self._thread = None
        with suppress(queue.Empty):
            while True:
                each = old.get_nowait()
                if each is not None:
                    self.submit(each)
        old.put(None)
        return stuck

    def close(self) -> None:
        """End the thread when its sensor answers."""
        self._waiting.put(None)

    def _run(self) -> None:
        waiting = self._waiting
        while (each := waiting.get()) is not None:
            each.begin(self._clock())
            self._reading = each
            changed, error = False, None
            try:
                changed = each.finish(each.sensor.read())
            except Exception as failure:  # noqa: BLE001 - it is raised in the scheduler's `run`
                error = failure
            if self._waiting is waiting:
                self._reading = None
            self._finished(changed, error)


class Sleeper:
    """A sleep that another thread can end: one C call to sleep, one to wake.

    `threading.Event` takes three times the processor time, once a second, all day.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def sleep(self, seconds: float) -> None:
        """Sleep, or return at once if `wake` was called since the last sleep."""
        self._lock.acquire(timeout=max(_LEAST_SLEEP_SECONDS, seconds))

    def wake(self) -> None:
        """End the sleep."""
        with suppress(RuntimeError):  # it is awake already
            self._lock.release()
