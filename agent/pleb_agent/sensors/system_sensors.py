"""Chooses the sensors for the system that this runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.sensors.board import Sensors
from pleb_agent.sensors.gpu import AllGpus
from pleb_agent.sensors.load import LinuxLoad
from pleb_agent.sensors.memory import LinuxMemory
from pleb_agent.sensors.network import NetworkManagerMetered
from pleb_agent.sensors.power import ChargerWatch, LinuxPower
from pleb_agent.sensors.programs import LinuxPrograms
from pleb_agent.sensors.system_bus import SystemBus
from pleb_agent.sensors.temperature import LinuxTemperature

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.sensors.sensor import WorkerPid

__all__ = ["system_sensors"]


def system_sensors(worker_pid: WorkerPid, preferences: Callable[[], Preferences]) -> Sensors:
    """Return this system's sensors. `preferences` are asked anew at each read."""
    return linux_sensors(worker_pid, preferences)


def linux_sensors(worker_pid: WorkerPid, preferences: Callable[[], Preferences]) -> Sensors:
    """Return the sensors that read the Linux kernel and its services."""
    return Sensors(
        plug=ChargerWatch(),
        power=LinuxPower(),
        load=LinuxLoad(worker_pid),
        memory=LinuxMemory(worker_pid),
        temperature=LinuxTemperature(),
        gpus=AllGpus(),
        programs=LinuxPrograms(lambda: preferences().pause_programs),
        metered=NetworkManagerMetered(SystemBus()),
    )
