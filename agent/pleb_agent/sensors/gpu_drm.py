"""AMD's and Intel's graphics processors, from the kernel's DRM drivers on Linux.

- AMD reports its load and memory in sysfs (the kernel's `amdgpu` documentation).
- Intel reports how long it slept (`rc6_residency_ms`, with `xe` `idle_residency_ms`): what it did
  not sleep counts as load, which is never less than the truth.
- Neither reports the worker's part: its sandbox keeps even agentd from reading that (`fdinfo`).
  So while a worker runs, the load of others is not known.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readings import Gpu
from pleb_agent.sensors.kernel_files import read_number, read_word, sub_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pleb_agent.sensors.sensor import CardPid

__all__ = ["DrmGpus", "pci_name"]

ROOT: Final = Path("/sys/class/drm")
_PCI_LISTS: Final = (
    Path("/usr/share/misc/pci.ids"),
    Path("/usr/share/hwdata/pci.ids"),
    Path("/usr/share/pci.ids"),
)
"""Where distributions keep the names of PCI devices (pci.ids)."""
_CARD: Final = re.compile(r"card\d+")
_AMD: Final = 0x1002
_INTEL: Final = 0x8086
_SLEEP_FILES: Final = (
    "gt/gt0/rc6_residency_ms",
    "power/rc6_residency_ms",
    "device/tile0/gt0/gtidle/idle_residency_ms",
)


def pci_name(vendor: int, device: int, lists: tuple[Path, ...] = _PCI_LISTS) -> str | None:
    """Return the device's name, in brackets its trade name; None: no list knows it."""
    for path in lists:
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                ours = False
                for line in lines:
                    if not line.startswith(("\t", "#")):
                        ours = line.startswith(f"{vendor:04x}  ")
                    elif ours and line.startswith(f"\t{device:04x}  "):
                        name = line[7:].strip()
                        # "Navi 21 [Radeon RX 6800]" is sold under the name in brackets.
                        return name[name.rfind("[") + 1 : -1] if name.endswith("]") else name
        except OSError:
            continue
    return None


class DrmGpus:
    """Reads below `root`, by default /sys/class/drm. `clock`: monotonic seconds.

    `names`: of the devices (`core.devices`) by their render nodes, such as renderD128.
    """

    def __init__(
        self,
        card_pid: CardPid,
        root: Path = ROOT,
        *,
        names: Mapping[str, str] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
        name_of: Callable[[int, int], str | None] = pci_name,
    ) -> None:
        self._card_pid = card_pid
        self._device_names = names
        self._root = root
        self._clock = clock
        self._name_of = name_of
        self._names: dict[Path, str] = {}
        self._slept: dict[Path, tuple[float, int]] = {}

    def read(self) -> tuple[Gpu, ...]:
        """Return every card of AMD and Intel."""
        return tuple(self._read_card(card, vendor) for card, vendor in cards(self._root))

    def _read_card(self, card: Path, vendor: int) -> Gpu:
        if card not in self._names:
            self._names[card] = card_name(card, vendor, self._name_of)
        name, device = self._names[card], self._device(card)
        if read_word(card / "device/power/runtime_status") == "suspended":
            return Gpu(name, 0.0, None, None, device)  # and let it sleep
        load = (
            read_number(card / "device/gpu_busy_percent") if vendor == _AMD else self._awake(card)
        )
        is_ours = bool(device) and self._card_pid(device) is not None
        return Gpu(
            name,
            None if load is None or is_ours else float(load),
            read_number(card / "device/mem_info_vram_used"),
            read_number(card / "device/mem_info_vram_total"),
            device,
            _celsius(card),
        )

    def _device(self, card: Path) -> str:
        """Return the card's name as a device; empty: it computes nothing."""
        nodes = sub_folders(card / "device/drm") or []
        return next((self._device_names[n.name] for n in nodes if n.name in self._device_names), "")

    def _awake(self, card: Path) -> float | None:
        """Return the share of the time since the last call that it was awake, in percent."""
        now = self._clock()
        numbers = (read_number(card / file) for file in _SLEEP_FILES)
        slept = next((number for number in numbers if number is not None), None)
        before = self._slept.get(card)
        if slept is None:
            return None
        self._slept[card] = now, slept
        if before is None or now <= before[0]:
            return None
        share = 1 - (slept - before[1]) / 1000 / (now - before[0])
        return 100 * min(1.0, max(0.0, share))


def _celsius(card: Path) -> float | None:
    """Return what the driver's own sensor says."""
    for sensor in sub_folders(card / "device/hwmon") or []:
        milli = read_number(sensor / "temp1_input")
        if milli is not None:
            return milli / 1000
    return None


def cards(root: Path = ROOT) -> list[tuple[Path, int]]:
    """Return the folder and the maker's number of each card of AMD and Intel."""
    folders = [card for card in sub_folders(root) or [] if _CARD.fullmatch(card.name)]
    makers = ((card, _hex(card / "device/vendor")) for card in folders)
    return [(card, vendor) for card, vendor in makers if vendor in {_AMD, _INTEL} and vendor]


def card_name(card: Path, vendor: int, name_of: Callable[[int, int], str | None]) -> str:
    """Return what the card is called, by itself or by the list; else its number."""
    device = _hex(card / "device/device") or 0
    maker = "AMD" if vendor == _AMD else "Intel"
    name = read_word(card / "device/product_name") or name_of(vendor, device)
    return f"{maker} {name}" if name else f"{maker} graphics {device:04x}"


def _hex(path: Path) -> int | None:
    word = read_word(path)
    try:
        return None if word is None else int(word, 16)
    except ValueError:
        return None
