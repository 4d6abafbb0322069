"""NVIDIA's graphics processors, by its management library (nvidia-ml-py).

The library takes some 6 MB and starts the driver, so nothing is loaded before the first question.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.core.readings import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.sensors.sensor import CardPid

__all__ = ["NvidiaGpus", "Nvml", "NvmlDevice", "load_nvml"]

_DRIVERS: Final = {
    "linux": Path("/proc/driver/nvidia/version"),
    "win32": Path("C:/Windows/System32/nvml.dll"),
}


def load_nvml(platform: str = sys.platform, drivers: dict[str, Path] = _DRIVERS) -> Any | None:
    """Return the module `pynvml`; None: there is no driver of NVIDIA."""
    driver = drivers.get(platform)
    if driver is None or not driver.exists():
        return None
    import pynvml

    return pynvml


@dataclass(frozen=True)
class NvmlDevice:
    """One graphics processor. None: the driver does not report it."""

    name: str
    percent: int | None
    worker_percent: float | None
    memory: tuple[int, int] | None
    """Used and total bytes."""
    celsius: int | None
    slowdown_celsius: int | None
    """Where the driver begins to slow it down."""
    worker_bytes: int | None = None
    """Memory of it that the worker holds."""


class Nvml:
    """Reads all devices. `load` returns the module, or a fake with the same functions."""

    def __init__(self, load: Callable[[], Any | None] = load_nvml) -> None:
        self._load = load
        self._module: Any | None = None
        self._seen_at: dict[int, int] = {}

    def devices(self, worker_of: CardPid | None) -> list[NvmlDevice]:
        """Return what is known of each device; none without the driver, or when it fails.

        The library counts devices by their places on the bus. `worker_of`: the process on each one
        whose share is reported apart; None: there is none.
        """
        if self._module is None:
            self._module = self._start()
        nvml = self._module
        if nvml is None:
            return []
        try:
            return [
                self._device(nvml, i, None if worker_of is None else worker_of(f"cuda-{i}"))
                for i in range(nvml.nvmlDeviceGetCount())
            ]
        except nvml.NVMLError:
            self._module = None  # the driver was updated or the device is lost: start again
            return []

    def _start(self) -> Any | None:
        nvml = self._load()
        if nvml is None:
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return None
        return nvml

    def _device(self, nvml: Any, index: int, worker: int | None) -> NvmlDevice:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        rates = _ask(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        name = nvml.nvmlDeviceGetName(handle)
        return NvmlDevice(
            name=name.decode() if isinstance(name, bytes) else str(name),
            percent=None if rates is None else int(rates.gpu),
            worker_percent=0.0 if worker is None else self._share(nvml, index, handle, worker),
            memory=None if memory is None else (int(memory.used), int(memory.total)),
            celsius=_ask(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            slowdown_celsius=_ask(
                nvml,
                nvml.nvmlDeviceGetTemperatureThreshold,
                handle,
                nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
            ),
            worker_bytes=0 if worker is None else _held(nvml, handle, worker),
        )

    def _share(self, nvml: Any, index: int, handle: Any, worker: int) -> float | None:
        """Return the worker's mean load since the last call, in percent."""
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(handle, self._seen_at.get(index, 0))
        except nvml.NVMLError as error:
            return 0.0 if error.value == nvml.NVML_ERROR_NOT_FOUND else None  # found: no samples
        if samples:
            self._seen_at[index] = max(int(sample.timeStamp) for sample in samples)
        own = [int(sample.smUtil) for sample in samples if sample.pid == worker]
        return sum(own) / len(own) if own else 0.0


def _held(nvml: Any, handle: Any, worker: int) -> int | None:
    processes = _ask(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    if processes is None:
        return None
    return sum(int(one.usedGpuMemory or 0) for one in processes if one.pid == worker)


def _ask(nvml: Any, question: Callable[..., Any], *arguments: Any) -> Any | None:
    """Return the answer; None: this device or driver does not know it."""
    try:
        return question(*arguments)
    except nvml.NVMLError as error:
        if error.value in {nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_NO_PERMISSION}:
            return None
        raise


class NvidiaGpus:
    """The load of others is all load less the worker's; None where one of them is not known."""

    def __init__(self, nvml: Nvml, card_pid: CardPid) -> None:
        self._nvml = nvml
        self._card_pid = card_pid
        self._devices: list[NvmlDevice] = []

    def read(self) -> tuple[Gpu, ...]:
        """Return every device."""
        self._devices = self._nvml.devices(self._card_pid)
        found = []
        for number, device in enumerate(self._devices):
            others = None
            if device.percent is not None and device.worker_percent is not None:
                others = max(0.0, device.percent - device.worker_percent)
            used, total = device.memory or (None, None)
            gpu = Gpu(
                device.name,
                others,
                used,
                total,
                device=f"cuda-{number}",
                celsius=device.celsius,
                worker_bytes=device.worker_bytes,
            )
            found.append(gpu)
        return tuple(found)

    def heat(self) -> list[tuple[int | None, int | None]]:
        """Return, as of the last read, each one's temperature and the driver's limit.

        In milli-degrees Celsius, as `temperature.hottest` takes them.
        """
        return [
            (_milli(device.celsius), _milli(device.slowdown_celsius)) for device in self._devices
        ]


def _milli(celsius: int | None) -> int | None:
    return None if celsius is None else celsius * 1000
