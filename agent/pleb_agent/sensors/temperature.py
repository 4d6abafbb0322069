"""The hottest of the processors, on Linux, from hwmon and, failing that, the thermal zones.

Only sensors of CPUs and GPUs count: a disk, a Wi-Fi card, a battery or a chip on the board says
nothing about what our work heats up, and board chips report values of inputs that nothing is
connected to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.sensors.kernel_files import KeptFile, read_number, read_word, sub_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Pairs = Iterable[tuple[int | None, int | None]]

__all__ = ["UNKNOWN_TEMPERATURE", "DriverTemperature", "LinuxTemperature", "Temperature", "hottest"]

ROOT: Final = Path("/sys/class")
_READS_PER_SEARCH: Final = 30
_PLAUSIBLE: Final = range(1_000, 150_000)
"""Milli-degrees Celsius. A broken sensor says 0, a negative number or 255."""
_PLAUSIBLE_CRITICAL: Final = range(50_000, 150_000)

_CHIPS: Final[dict[str, frozenset[str]]] = {
    # driver: the labels of the whole chip; empty: every input of the driver
    "coretemp": frozenset({"Package id 0", "Package id 1", "Package id 2", "Package id 3"}),
    "k10temp": frozenset({"Tdie"}),  # Tctl is higher by an offset on some of them
    "zenpower": frozenset({"Tdie"}),
    "amdgpu": frozenset({"edge"}),
    "radeon": frozenset(),
    "nouveau": frozenset(),
    "i915": frozenset({"pkg"}),
    "xe": frozenset({"pkg"}),
    "cpu_thermal": frozenset(),
    "via_cputemp": frozenset(),
    "thinkpad": frozenset({"CPU", "GPU"}),
    "dell_smm": frozenset({"CPU", "GPU"}),
    "macsmc_hwmon": frozenset({"CPU", "GPU"}),
}
_STRICT: Final = frozenset({"thinkpad", "dell_smm", "macsmc_hwmon"})
"""Drivers with other things' inputs too: without the label, none is taken."""
_ZONES: Final = ("x86_pkg_temp", "TCPU", "cpu", "soc", "gpu")
"""Beginnings of the kinds of zones that are processors."""


@dataclass(frozen=True)
class Temperature:
    """Degrees Celsius. None: no sensor reports it.

    `headroom`: how far the processor that is nearest to its own critical temperature, as its
    driver reports it, is below that.
    """

    hottest: float | None = None
    headroom: float | None = None


UNKNOWN_TEMPERATURE: Final = Temperature()


@dataclass(frozen=True)
class _Input:
    file: KeptFile
    critical: int | None

    def millidegrees(self) -> int | None:
        try:
            return int(self.file.read() or b"")
        except ValueError:
            return None


def hottest(values: Pairs) -> Temperature:
    """Return the temperature of (value, critical) pairs in milli-degrees Celsius."""
    known = [(value, top) for value, top in values if value in _PLAUSIBLE and value is not None]
    if not known:
        return UNKNOWN_TEMPERATURE
    rooms = [top - value for value, top in known if top is not None and top in _PLAUSIBLE_CRITICAL]
    return Temperature(
        max(value for value, _ in known) / 1000, min(rooms) / 1000 if rooms else None
    )


class LinuxTemperature:
    """Reads below `root`, by default /sys/class.

    `heat`: pairs for `hottest` from elsewhere: NVIDIA's driver shows nothing there.
    """

    def __init__(self, root: Path = ROOT, heat: Callable[[], Pairs] = list) -> None:
        self._root = root
        self._heat = heat
        self._inputs: list[_Input] = []
        self._reads = 0

    def read(self) -> Temperature:
        """Return the temperature now."""
        if self._reads % _READS_PER_SEARCH == 0:
            for old in self._inputs:
                old.file.close()
            self._inputs = _chips(self._root / "hwmon") or _zones(self._root / "thermal")
        self._reads += 1
        own = [(found.millidegrees(), found.critical) for found in self._inputs]
        return hottest([*own, *self._heat()])


class DriverTemperature:
    """Where only the drivers of graphics processors report a temperature."""

    def __init__(self, heat: Callable[[], Pairs]) -> None:
        self._heat = heat

    def read(self) -> Temperature:
        """Return the temperature as of the drivers' last answer."""
        return hottest(self._heat())


def _chips(root: Path) -> list[_Input]:
    found = []
    for folder in sub_folders(root) or []:
        if read_word(folder / "device/power/runtime_status") == "suspended":
            continue  # a graphics card that the kernel has put to sleep is cold, and stays asleep
        chip = read_word(folder / "name") or ""
        wanted = _CHIPS.get(chip)
        if wanted is None:
            continue
        labels = {
            path: read_word(path.with_name(path.name.replace("_input", "_label")))
            for path in sorted(folder.glob("temp*_input"))
        }
        chosen = [path for path, label in labels.items() if label in wanted]
        if not chosen and chip not in _STRICT:
            chosen = list(labels)
        for path in chosen:
            critical = read_number(path.with_name(path.name.replace("_input", "_crit")))
            found.append(_Input(KeptFile(path), critical))
    return found


def _zones(root: Path) -> list[_Input]:
    return [
        _Input(KeptFile(folder / "temp"), _critical_trip(folder))
        for folder in sub_folders(root) or []
        if (read_word(folder / "type") or "").startswith(_ZONES)
    ]


def _critical_trip(folder: Path) -> int | None:
    for path in sorted(folder.glob("trip_point_*_type")):
        if read_word(path) == "critical":
            return read_number(path.with_name(path.name.replace("_type", "_temp")))
    return None
