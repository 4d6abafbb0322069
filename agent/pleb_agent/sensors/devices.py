"""Which devices this PC has that could compute, from what the system's drivers show.

No driver is started and no library loaded: a sleeping card goes on sleeping. What a card can do
its worker says, when it is warm.
"""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.core.devices import PROCESSOR, FoundDevice
from pleb_agent.sensors.gpu_drm import card_name, pci_name
from pleb_agent.sensors.gpu_nvidia import Nvml
from pleb_agent.sensors.kernel_files import read_word, sub_folders
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pleb_agent.sensors.sensor import CardPid

__all__ = ["CARDS", "Workers", "devices_named", "find_cards"]

CARDS: Final = "cards"
"""What stands for all devices but the processor."""

_NVIDIA_NODES: Final = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_NVIDIA_UUID: Final = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INTEL: Final = "0x8086"


@dataclass(frozen=True)
class Workers:
    """The cards of this PC, and the process of the worker on each device, while there is one."""

    cards: Sequence[FoundDevice]
    pid_of: CardPid


def find_cards(
    root: Path = Path("/"),
    system: str = sys.platform,
    machine: str = "",
    nvml: Callable[[], Nvml] = Nvml,
) -> list[FoundDevice]:
    """Return this PC's cards, in the order in which the libraries count them.

    Args:
        root: of the file system, or of a test's tree.
        system: as `sys.platform` has it.
        machine: the processor's architecture; empty: this one's.
        nvml: NVIDIA's management library, asked on Windows only.
    """
    if system == "linux":
        return [*_nvidia(root), *_amd(root), *_intel(root)]
    if system == "win32":
        names = [device.name for device in nvml().devices(None)]
        return [FoundDevice(f"cuda-{number}", name) for number, name in enumerate(names)]
    if system == "darwin" and (machine or platform.machine()) == "arm64":
        return [FoundDevice("mps-0", "Apple graphics")]
    return []


def devices_named(names: Sequence[str], cards: Sequence[FoundDevice]) -> list[str]:
    """Return the devices that are meant; `cards` means all but the processor.

    Raises:
        InputError: this PC has no such device.
    """
    known = [PROCESSOR.name, *(card.name for card in cards)]
    found: list[str] = []
    for name in names:
        if name != CARDS and name not in known:
            raise InputError(f"This PC has no device {name!r}; it has {', '.join(known)}.")
        if name == CARDS and not cards:
            raise InputError("This PC has no graphics card that could compute.")
        found += known[1:] if name == CARDS else [name]
    return found


def _nvidia(root: Path) -> Iterator[FoundDevice]:
    """Yield NVIDIA's, by their places on the bus, which are the names of the driver's folders."""
    folders = sorted(sub_folders(root / "proc/driver/nvidia/gpus") or [])
    for number, folder in enumerate(folders):
        facts = _facts(folder / "information", ":")
        minor = facts.get("Device Minor", str(number))
        nodes = (f"/dev/nvidia{minor}", *_NVIDIA_NODES)
        said = facts.get("GPU UUID", "")
        uuid = said if _NVIDIA_UUID.fullmatch(said) else ""  # a sleeping driver says question marks
        yield FoundDevice(f"cuda-{number}", facts.get("Model", "NVIDIA graphics"), nodes, uuid)


def _amd(root: Path) -> Iterator[FoundDevice]:
    """Yield AMD's that their driver for computing knows; its other nodes are processors."""
    folders = sub_folders(root / "sys/class/kfd/kfd/topology/nodes") or []
    numbered = sorted((folder for folder in folders if folder.name.isdigit()), key=_number)
    number = 0
    for folder in numbered:
        facts = _facts(folder / "properties", None)
        if facts.get("simd_count", "0") == "0":
            continue
        node = f"renderD{facts.get('drm_render_minor', '')}"
        title = _title(root, node)
        unique = facts.get("unique_id", "0")  # older cards have none
        uuid = f"GPU-{int(unique):016x}" if unique.isdigit() and unique != "0" else ""
        yield FoundDevice(f"rocm-{number}", title, ("/dev/kfd", f"/dev/dri/{node}"), uuid)
        number += 1


def _intel(root: Path) -> Iterator[FoundDevice]:
    """Yield Intel's, by the numbers of their nodes."""
    folders = sorted(sub_folders(root / "sys/class/drm") or [])
    nodes = [
        folder.name
        for folder in folders
        if folder.name.startswith("renderD") and read_word(folder / "device/vendor") == _INTEL
    ]
    for number, node in enumerate(nodes):
        yield FoundDevice(f"xpu-{number}", _title(root, node), (f"/dev/dri/{node}",))


def _title(root: Path, node: str) -> str:
    folder = root / "sys/class/drm" / node
    maker = int(read_word(folder / "device/vendor") or "0x1002", 16)
    return card_name(folder, maker, pci_name)


def _facts(path: Path, separator: str | None) -> dict[str, str]:
    """Return the lines `name separator value` of a driver's file; an unreadable one has none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split(separator, 1) for line in lines)
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


def _number(folder: Path) -> int:
    return int(folder.name)
