"""NVIDIA's graphics processors: their load, memory and heat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.core.readings import Gpu

if TYPE_CHECKING:
    from pleb_agent.sensors.nvml import Nvml, NvmlDevice
    from pleb_agent.sensors.sensor import WorkerPid

__all__ = ["NvidiaGpus"]


class NvidiaGpus:
    """The load of others is all load less the worker's; None where one of them is not told."""

    def __init__(self, nvml: Nvml, worker_pid: WorkerPid) -> None:
        self._nvml = nvml
        self._worker_pid = worker_pid
        self._devices: list[NvmlDevice] = []

    def read(self) -> tuple[Gpu, ...]:
        """Return every device."""
        self._devices = self._nvml.devices(self._worker_pid())
        return tuple(_gpu(device) for device in self._devices)

    def heat(self) -> list[tuple[int | None, int | None]]:
        """Return, as of the last read, each one's temperature and the driver's limit.

        In milli-degrees Celsius, as `temperature.hottest` takes them.
        """
        return [
            (_milli(device.celsius), _milli(device.slowdown_celsius)) for device in self._devices
        ]


def _gpu(device: NvmlDevice) -> Gpu:
    if device.percent is None or device.worker_percent is None:
        others = None
    else:
        others = max(0.0, device.percent - device.worker_percent)
    used, total = device.memory or (None, None)
    return Gpu(device.name, others, used, total)


def _milli(celsius: int | None) -> int | None:
    return None if celsius is None else celsius * 1000
