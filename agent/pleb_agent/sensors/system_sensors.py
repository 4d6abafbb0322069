"""Chooses the sensors for the system that this runs on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.core.readings import UNKNOWN_POWER
from pleb_agent.sensors.change_threshold import differs
from pleb_agent.sensors.gpu_nvidia import NvidiaGpus, Nvml
from pleb_agent.sensors.load import LinuxLoad, PsutilLoad
from pleb_agent.sensors.macos_power import MacCharger, MacPower
from pleb_agent.sensors.memory import LinuxMemory, PsutilMemory
from pleb_agent.sensors.power import ChargerWatch, LinuxPower
from pleb_agent.sensors.programs import LinuxPrograms, PsutilPrograms
from pleb_agent.sensors.scheduled_sensor import ScheduledSensor
from pleb_agent.sensors.scheduler import Sensors
from pleb_agent.sensors.sensor import Unavailable
from pleb_agent.sensors.session_events import NoSessionEvents
from pleb_agent.sensors.temperature import DriverTemperature, LinuxTemperature
from pleb_agent.sensors.windows_power import WindowsEvents, WindowsPower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.core.devices import FoundDevice
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Gpu
    from pleb_agent.sensors.sensor import CardPid, Sensor, WorkerPid
    from pleb_agent.sensors.temperature import Pairs

__all__ = ["AllGpus", "other_sensors", "system_sensors"]

UNKNOWN: Final = Unavailable[bool | None](None)
"""What a system does not report."""


class AllGpus:
    """Joins the answers of several drivers' sensors."""

    def __init__(self, *sensors: Sensor[tuple[Gpu, ...]]) -> None:
        self._sensors = sensors

    def read(self) -> tuple[Gpu, ...]:
        """Return every graphics processor that is known."""
        return tuple(gpu for sensor in self._sensors for gpu in sensor.read())


def other_sensors(
    preferences: Callable[[], Preferences],
    programs: Sensor[frozenset[str]],
    metered: Sensor[bool | None] = UNKNOWN,
) -> dict[str, ScheduledSensor[Any]]:
    """Return sensors by the field of `Readings` that they fill.

    Each with its unknown value and its periods in seconds: quick, calm, at rest.
    """
    return {
        "programs": ScheduledSensor(
            programs,
            frozenset(),
            (15, 30, 60),
            differs,
            wanted=lambda: bool(preferences().pause_programs or preferences().gpu_pause_programs),
        ),
        "metered": ScheduledSensor(metered, None, (30, 30, 60), differs),
    }


def system_sensors(
    worker_pid: WorkerPid,
    preferences: Callable[[], Preferences],
    platform: str = sys.platform,
    *,
    cards: Sequence[FoundDevice] = (),
    card_pid: CardPid = lambda _: None,
) -> Sensors:
    """Return this system's sensors. `preferences` are asked again at each read.

    `worker_pid`: of the processor's worker; `card_pid`: of the one on a card.
    """

    def pids_on_cards() -> list[int]:
        found = [card_pid(card.name) for card in cards]
        return [pid for pid in found if pid is not None]

    def any_pid() -> int | None:
        return next((pid for pid in (worker_pid(), *pids_on_cards()) if pid is not None), None)

    nvidia = NvidiaGpus(Nvml(), card_pid)
    names = {node.rpartition("/")[2]: card.name for card in cards for node in card.nodes}

    def chosen_programs() -> list[str]:
        return [*preferences().pause_programs, *preferences().gpu_pause_programs]

    def gpu_heat() -> Pairs:
        return nvidia.heat() if preferences().use_gpu else []

    if platform == "linux":
        from pleb_agent.sensors.bus_sensors import (  # jeepney is installed there only
            NetworkManagerMetered,
            PowerWithUps,
            SystemBus,
        )
        from pleb_agent.sensors.gpu_drm import DrmGpus
        from pleb_agent.sensors.logind import LogindEvents

        bus = SystemBus()
        return Sensors(
            worker_pid=any_pid,
            plug=ChargerWatch(),
            power=PowerWithUps(LinuxPower(), bus),
            load=LinuxLoad(worker_pid),
            memory=LinuxMemory(worker_pid),
            temperature=LinuxTemperature(heat=gpu_heat),
            gpus=AllGpus(nvidia, DrmGpus(card_pid, names=names)),
            session=LogindEvents(),
            others=other_sensors(
                preferences,
                LinuxPrograms(chosen_programs),
                NetworkManagerMetered(bus),
            ),
        )
    own: dict[str, Any]
    if platform == "win32":
        power = WindowsPower()
        own = {"plug": power, "power": power, "session": WindowsEvents()}
    elif platform == "darwin":
        own = {"plug": MacCharger(), "power": MacPower(), "session": NoSessionEvents()}
    else:
        own = {
            "plug": Unavailable(None),
            "power": Unavailable(UNKNOWN_POWER),
            "session": NoSessionEvents(),
        }
    return Sensors(
        worker_pid=any_pid,
        load=PsutilLoad(worker_pid, pids_on_cards=pids_on_cards),
        memory=PsutilMemory(worker_pid),
        temperature=DriverTemperature(gpu_heat),
        gpus=nvidia,
        others=other_sensors(preferences, PsutilPrograms(chosen_programs)),
        **own,
    )
