"""Chooses the sensors for the system that this runs on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pleb_agent.core.readings import UNKNOWN_POWER
from pleb_agent.sensors.absent import Absent
from pleb_agent.sensors.board import Sensors
from pleb_agent.sensors.gpu import AllGpus
from pleb_agent.sensors.gpu_nvidia import NvidiaGpus
from pleb_agent.sensors.load import LinuxLoad
from pleb_agent.sensors.load_psutil import PsutilLoad
from pleb_agent.sensors.macos_power import MacCharger, MacPower
from pleb_agent.sensors.memory import LinuxMemory, PsutilMemory
from pleb_agent.sensors.nvml import Nvml
from pleb_agent.sensors.power import ChargerWatch, LinuxPower
from pleb_agent.sensors.programs import LinuxPrograms, PsutilPrograms
from pleb_agent.sensors.session_events import NoSessionEvents
from pleb_agent.sensors.temperature import DriverTemperature, LinuxTemperature
from pleb_agent.sensors.windows_power import WindowsEvents, WindowsPower

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Power
    from pleb_agent.sensors.sensor import Sensor, WorkerPid
    from pleb_agent.sensors.session_events import SessionEvents
    from pleb_agent.sensors.temperature import Pairs

__all__ = ["system_sensors"]


def system_sensors(
    worker_pid: WorkerPid, preferences: Callable[[], Preferences], platform: str = sys.platform
) -> Sensors:
    """Return this system's sensors. `preferences` are asked anew at each read."""
    choice = _Choice(worker_pid, preferences)
    if platform == "linux":
        return choice.linux()
    if platform == "win32":
        power = WindowsPower()
        return choice.elsewhere(power, power, WindowsEvents())
    if platform == "darwin":
        return choice.elsewhere(MacCharger(), MacPower(), NoSessionEvents())
    return choice.elsewhere(Absent(None), Absent(UNKNOWN_POWER), NoSessionEvents())


class _Choice:
    """What every system's sensors are built from."""

    def __init__(self, worker_pid: WorkerPid, preferences: Callable[[], Preferences]) -> None:
        self._worker_pid = worker_pid
        self._preferences = preferences
        self._nvidia = NvidiaGpus(Nvml(), worker_pid)

    def linux(self) -> Sensors:
        """Return the sensors that read the kernel's files and ask services over D-Bus."""
        from pleb_agent.sensors.gpu_drm import DrmGpus
        from pleb_agent.sensors.lid import LinuxLid
        from pleb_agent.sensors.network import NetworkManagerMetered
        from pleb_agent.sensors.session_events_linux import LogindEvents
        from pleb_agent.sensors.system_bus import SystemBus
        from pleb_agent.sensors.upower import PowerWithUps

        bus = SystemBus()
        return Sensors(
            worker_pid=self._worker_pid,
            plug=ChargerWatch(),
            power=PowerWithUps(LinuxPower(), bus),
            load=LinuxLoad(self._worker_pid),
            memory=LinuxMemory(self._worker_pid),
            temperature=LinuxTemperature(heat=self._gpu_heat),
            gpus=AllGpus(self._nvidia, DrmGpus(self._worker_pid)),
            programs=LinuxPrograms(self._chosen_programs),
            metered=NetworkManagerMetered(bus),
            lid=LinuxLid(bus),
            session=LogindEvents(),
        )

    def elsewhere(
        self, plug: Sensor[object], power: Sensor[Power], session: SessionEvents
    ) -> Sensors:
        """Return the sensors of systems where psutil tells most."""
        return Sensors(
            worker_pid=self._worker_pid,
            plug=plug,
            power=power,
            load=PsutilLoad(self._worker_pid),
            memory=PsutilMemory(self._worker_pid),
            temperature=DriverTemperature(self._gpu_heat),
            gpus=self._nvidia,
            programs=PsutilPrograms(self._chosen_programs),
            metered=Absent(None),
            lid=Absent(None),
            session=session,
        )

    def _chosen_programs(self) -> list[str]:
        return self._preferences().pause_programs

    def _gpu_heat(self) -> Pairs:
        return self._nvidia.heat() if self._preferences().use_gpu else []
