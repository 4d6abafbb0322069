"""What computing takes: measured where the device is, else estimated; counted for its unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.core.devices import CPU
from pleb_agent.core.energy import kwh

if TYPE_CHECKING:
    from pleb_agent.loop.services import Services

__all__ = ["EnergyCount"]

_LEAST_SECONDS: Final = 2.0
"""Of computing between two looks at a meter: counters are coarse, and a step may take 1 ms."""
_JOULES: Final = 3.6e6
"""In a kWh."""


class EnergyCount:
    """Of one device. Nothing is written here: the journal keeps amounts until its next write."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._seconds = 0.0
        """Of computing that is not counted yet."""

    def begin(self, pid: int | None) -> None:
        """Count for a new unit; what was used before belongs to none."""
        self._seconds = 0.0
        if self._services.meter is not None:
            self._services.meter.joules(pid, 0.0)

    def count(self, project: int, number: int, pid: int | None, seconds: float) -> None:
        """Note that an assignment was computed for so long."""
        self._seconds += seconds
        if self._seconds >= _LEAST_SECONDS:
            self.settle(project, number, pid)

    def settle(self, project: int, number: int, pid: int | None) -> None:
        """Count what has come together for an assignment."""
        seconds, self._seconds = self._seconds, 0.0
        if not seconds:
            return
        services = self._services
        meter = services.meter
        joules = None if meter is None else meter.joules(pid, seconds)
        energy = self._estimate(seconds) if joules is None else joules / _JOULES
        measured = 0.0 if joules is None else energy
        services.journal.count(project, services.clock(), energy_kwh=energy, measured_kwh=measured)
        services.journal.count_energy(number, energy, measured)

    def _estimate(self, seconds: float) -> float:
        preferences = self._services.preferences()
        if self._services.device == CPU:
            return kwh(seconds, preferences.threads, preferences.watts_per_thread)
        return kwh(seconds, 1, preferences.watts_per_card)
