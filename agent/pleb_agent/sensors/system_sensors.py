"""Chooses the sensors for the system that this runs on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pleb_agent.core.readings import UNKNOWN_POWER
from pleb_agent.sensors.absent import Absent
from pleb_agent.sensors.board import Sensors
from pleb_agent.sensors.load import LinuxLoad
from pleb_agent.sensors.load_psutil import PsutilLoad
from pleb_agent.sensors.macos_power import MacCharger, MacPower
from pleb_agent.sensors.memory import LinuxMemory, PsutilMemory
from pleb_agent.sensors.power import ChargerWatch, LinuxPower
from pleb_agent.sensors.programs import LinuxPrograms, PsutilPrograms
from pleb_agent.sensors.session_events import NoSessionEvents
from pleb_agent.sensors.temperature import COLD, LinuxTemperature
from pleb_agent.sensors.windows_power import WindowsEvents, WindowsPower

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Gpu, Power
    from pleb_agent.sensors.sensor import Sensor, WorkerPid
    from pleb_agent.sensors.session_events import SessionEvents

__all__ = ["system_sensors"]


def system_sensors(
    worker_pid: WorkerPid, preferences: Callable[[], Preferences], platform: str = sys.platform
) -> Sensors:
    """Return this system's sensors. `preferences` are asked anew at each read."""

    def chosen() -> Collection[str]:
        return preferences().pause_programs

    if platform == "linux":
        return _linux(worker_pid, chosen)
    if platform == "win32":
        power = WindowsPower()
        return _elsewhere(worker_pid, chosen, power, power, WindowsEvents())
    if platform == "darwin":
        return _elsewhere(worker_pid, chosen, MacCharger(), MacPower(), NoSessionEvents())
    return _elsewhere(worker_pid, chosen, Absent(None), Absent(UNKNOWN_POWER), NoSessionEvents())


def _linux(worker_pid: WorkerPid, chosen: Callable[[], Collection[str]]) -> Sensors:
    from pleb_agent.sensors.lid import LinuxLid
    from pleb_agent.sensors.network import NetworkManagerMetered
    from pleb_agent.sensors.session_events_linux import LogindEvents
    from pleb_agent.sensors.system_bus import SystemBus

    bus = SystemBus()
    return Sensors(
        worker_pid=worker_pid,
        plug=ChargerWatch(),
        power=LinuxPower(),
        load=LinuxLoad(worker_pid),
        memory=LinuxMemory(worker_pid),
        temperature=LinuxTemperature(),
        gpus=_gpus(),
        programs=LinuxPrograms(chosen),
        metered=NetworkManagerMetered(bus),
        lid=LinuxLid(bus),
        session=LogindEvents(),
    )


def _elsewhere(
    worker_pid: WorkerPid,
    chosen: Callable[[], Collection[str]],
    plug: Sensor[object],
    power: Sensor[Power],
    session: SessionEvents,
) -> Sensors:
    """Return the sensors of systems where psutil tells most, and nobody the temperature."""
    return Sensors(
        worker_pid=worker_pid,
        plug=plug,
        power=power,
        load=PsutilLoad(worker_pid),
        memory=PsutilMemory(worker_pid),
        temperature=Absent(COLD),
        gpus=_gpus(),
        programs=PsutilPrograms(chosen),
        metered=Absent(None),
        lid=Absent(None),
        session=session,
    )


def _gpus() -> Sensor[tuple[Gpu, ...]]:
    return Absent(())
