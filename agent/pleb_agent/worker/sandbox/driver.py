"""What a card's driver needs of the sandbox, by name: device files, what its library reads, calls.

A worker on the processor has none of this. A card's driver is a large part of the kernel that a
stranger's code would get at: no more of it is open than the one card's files, and the same layers
close around the process. Sources: NVIDIA's open kernel modules (nv-ioctl-numbers.h: type F, and
uvm_ioctl.h, whose commands are plain numbers), Linux's include/uapi/linux/kfd_ioctl.h (type K) and
drm/drm.h (type d).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pleb_agent.core.devices import DeviceKind, kind_of

__all__ = ["Driver", "driver_of"]

_READ: Final[dict[DeviceKind, tuple[str, ...]]] = {
    DeviceKind.CUDA: (
        "/proc/driver/nvidia", "/proc/devices", "/proc/modules", "/sys/module/nvidia",
        "/sys/module/nvidia_uvm",
    ),
    DeviceKind.ROCM: (
        "/sys/class/kfd", "/sys/devices/virtual/kfd", "/sys/class/drm", "/sys/dev/char",
        "/sys/module/amdgpu", "/opt/rocm", "/opt/amdgpu", "/usr/share/libdrm",
    ),
    DeviceKind.XPU: ("/sys/class/drm", "/sys/dev/char", "/usr/share/libdrm", "/etc/OpenCL"),
}  # fmt: skip
_TYPES: Final = {
    DeviceKind.CUDA: (ord("F"),),
    DeviceKind.ROCM: (ord("K"), ord("d")),
    DeviceKind.XPU: (ord("d"),),
}
"""The second byte of the drivers' ioctl commands."""
_UVM_COMMANDS: Final = (*range(1, 80), 0x30000001, 0x30000002)
"""Those of NVIDIA's unified memory, which are no types. 1 and 2 are FIBMAP, which needs rights over
the whole system, and FIGETBSZ, which says the size of a block."""


@dataclass(frozen=True)
class Driver:
    """What is open in the sandbox of one card's worker, beyond that of the processor's."""

    nodes: tuple[Path, ...]
    """Device files: read, written, mapped and commanded."""
    readable: tuple[Path, ...]
    command_types: tuple[int, ...]
    """The types of ioctl commands that it takes, and single commands."""
    commands: tuple[int, ...]


def driver_of(device: str, nodes: list[str]) -> Driver | None:
    """Return what the device's driver needs; None: the processor has none.

    `nodes`: the device files that were found for it.
    """
    kind = kind_of(device)
    if kind is DeviceKind.CPU:
        return None
    cards = [Path("/sys/class/drm", Path(node).name, "device") for node in nodes]
    return Driver(
        nodes=tuple(map(Path, nodes)),
        # a render node's facts are in its place on the bus, where a link leads
        readable=(*map(Path, _READ.get(kind, ())), *(c.resolve() for c in cards if c.exists())),
        command_types=_TYPES.get(kind, ()),
        commands=_UVM_COMMANDS if kind is DeviceKind.CUDA else (),
    )
