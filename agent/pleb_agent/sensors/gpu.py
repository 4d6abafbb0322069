"""The graphics processors: load of others and memory, from whichever drivers tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pleb_agent.core.readings import Gpu
    from pleb_agent.sensors.sensor import Sensor

__all__ = ["AllGpus"]


class AllGpus:
    """Puts the answers of several drivers' sensors behind one another."""

    def __init__(self, *sensors: Sensor[tuple[Gpu, ...]]) -> None:
        self._sensors = sensors

    def read(self) -> tuple[Gpu, ...]:
        """Return all that are known."""
        return tuple(gpu for sensor in self._sensors for gpu in sensor.read())
