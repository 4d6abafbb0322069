"""What a worker takes of a device's energy, where the machine measures it.

- The processor's by Linux's powercap (RAPL of Intel and AMD): packages and memory, times the
  worker's share of the processors' busy time.
- NVIDIA's cards by NVML's energy counter (Volta and later): the whole card's while the worker
  computes.
- The whole PC's by the user's own meter (a smart plug's signal), while no card computes.

Since Linux 5.10 powercap's counters are readable by root alone, unless the administrator permits it
(CVE-2020-8694): otherwise there is no measurement, and the agent estimates.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pleb_agent.sensors.gpu_nvidia import load_nvml
from pleb_agent.sensors.kernel_files import read_number, read_word, sub_folders
from pleb_agent.sensors.worker_meter import worker_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CardMeter", "EnergyMeter", "FirstThatMeasures", "PlugMeter", "ProcessorMeter"]

_MEASURED: Final = ("package", "dram")
"""Zones of powercap that count; `core` and `uncore` are parts of `package`, `psys` is all."""
_NVIDIA: Final = "cuda-"


class EnergyMeter(Protocol):
    """Measures one device."""

    def joules(self, pid: int | None, computed_seconds: float) -> float | None:
        """Return what the worker took since the last call; None: it cannot be measured.

        pid: the worker's process. computed_seconds: how long of that time it computed.
        """


class ProcessorMeter:
    """Reads powercap. `seconds_of`: the processor time of a process; None: it is gone."""

    def __init__(
        self, root: Path = Path("/"), seconds_of: Callable[[int], float | None] = worker_seconds
    ) -> None:
        self._root = root
        self._seconds_of = seconds_of
        self._zones: list[Path] | None = None
        self._before: tuple[int | None, float, float, list[int]] | None = None

    def joules(self, pid: int | None, computed_seconds: float) -> float | None:  # noqa: ARG002 - what it took shows in its processor time
        """Return the energy of the packages times the worker's share of busy time."""
        before, self._before = self._before, None
        counters = [read_number(zone / "energy_uj") for zone in self._known_zones()]
        own = None if pid is None else self._seconds_of(pid)
        busy = self._busy_seconds()
        known = [counter for counter in counters if counter is not None]
        if not known or len(known) < len(counters) or own is None or busy is None:
            return None
        self._before = pid, own, busy, known
        if before is None or before[0] != pid or len(before[3]) != len(known):
            return None
        worked, passed = own - before[1], busy - before[2]
        if worked < 0 or passed <= 0:
            return None
        used = sum(
            self._step(zone, old, new)
            for zone, old, new in zip(self._known_zones(), before[3], known, strict=True)
        )
        return used * min(1.0, worked / passed)

    def _step(self, zone: Path, before: int, now: int) -> float:
        """Return the joules between two counters, of which the later may have begun again."""
        if now < before:
            now += (read_number(zone / "max_energy_range_uj") or before) + 1
        return (now - before) / 1e6

    def _known_zones(self) -> list[Path]:
        if self._zones is None:
            folders = sub_folders(self._root / "sys/class/powercap") or []
            self._zones = [
                folder
                for folder in folders
                if folder.name.startswith("intel-rapl:")  # AMD's too
                and (read_word(folder / "name") or "").startswith(_MEASURED)
            ]
        return self._zones

    def _busy_seconds(self) -> float | None:
        """Return the time of all processors in which they were not idle (proc(5), in 1/100 s)."""
        words = (read_word(self._root / "proc/stat") or "").split(maxsplit=9)[1:8]
        if len(words) < 7 or not all(word.isdigit() for word in words):
            return None
        user, nice, system, _idle, _wait, irq, soft = map(int, words)
        return (user + nice + system + irq + soft) / 100


class CardMeter:
    """Reads NVIDIA's counter. `load` returns the module `pynvml`, or None without a driver."""

    def __init__(
        self,
        number: int,
        load: Callable[[], Any | None] = load_nvml,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._number = number
        self._load = load
        self._clock = clock
        self._nvml: Any | None = None
        self._before: tuple[float, int] | None = None

    @classmethod
    def of(cls, device: str) -> CardMeter | None:
        """Return the meter of a device of that name; None: its maker's cards are not measured."""
        number = device.removeprefix(_NVIDIA)
        return cls(int(number)) if device.startswith(_NVIDIA) and number.isdigit() else None

    def joules(self, pid: int | None, computed_seconds: float) -> float | None:  # noqa: ARG002 - NVML has no energy by process
        """Return the card's energy, for the part of the time in which the worker computed."""
        before, self._before = self._before, None
        counter = self._counter()
        if counter is None:
            return None
        now = self._clock()
        self._before = now, counter
        if before is None or counter < before[1] or now <= before[0]:
            return None
        return (counter - before[1]) / 1000 * min(1.0, computed_seconds / (now - before[0]))

    def _counter(self) -> int | None:
        """Return millijoules since the driver was loaded."""
        if self._nvml is None:
            self._nvml = self._load()
            if self._nvml is None:
                return None
            try:
                self._nvml.nvmlInit()
            except self._nvml.NVMLError:
                self._nvml = None
                return None
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(self._number)
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except self._nvml.NVMLError:
            return None


class PlugMeter:
    """The user's own meter. `watts`: what it says now; None: nothing, or it does not count."""

    def __init__(self, watts: Callable[[], float | None]) -> None:
        self._watts = watts

    def joules(self, pid: int | None, computed_seconds: float) -> float | None:  # noqa: ARG002 - it measures the whole PC
        """Return the PC's energy in that time, at the power that it has now."""
        watts = self._watts()
        return None if watts is None else max(0.0, watts) * computed_seconds


class FirstThatMeasures:
    """Several meters of one device; the first that knows counts."""

    def __init__(self, *meters: EnergyMeter) -> None:
        self._meters = meters

    def joules(self, pid: int | None, computed_seconds: float) -> float | None:
        """Return what the first of them says that knows; all are read."""
        found = [meter.joules(pid, computed_seconds) for meter in self._meters]
        return next((joules for joules in found if joules is not None), None)
