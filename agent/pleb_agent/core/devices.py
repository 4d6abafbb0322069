"""What computes in a PC, and what each device is called: `cpu`, `cuda-0`, `rocm-1`.

The name is the volunteer's: in preferences, on the page, in folders. The number counts devices of
one kind in the order of their places on the bus. A runtime has only the kind, since two equal cards
compute alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "CPU",
    "PROCESSOR",
    "DeviceKind",
    "FoundDevice",
    "is_device_name",
    "kind_of",
    "number_of",
    "serves",
    "spare_card_bytes",
    "variables",
]

CPU: Final = "cpu"
_NAME: Final = re.compile(r"(cuda|rocm|xpu|mps)-(0|[1-9][0-9]?)")


class DeviceKind(StrEnum):
    """By whose library a device computes."""

    CPU = "cpu"
    CUDA = "cuda"
    """NVIDIA."""
    ROCM = "rocm"
    """AMD, which torch drives as it drives CUDA."""
    XPU = "xpu"
    """Intel."""
    MPS = "mps"
    """Apple's processors."""


@dataclass(frozen=True)
class FoundDevice:
    """A device of this PC."""

    name: str
    """`cpu`, `cuda-0`."""
    title: str
    """What its maker calls it."""
    nodes: tuple[str, ...] = ()
    """The device files by which its driver is reached (Linux)."""
    uuid: str = ""
    """What its maker's libraries call this one card; empty: not known."""


PROCESSOR: Final = FoundDevice(CPU, "CPU")


def is_device_name(name: str) -> bool:
    """Whether this can be the name of a device."""
    return name == CPU or _NAME.fullmatch(name) is not None


def kind_of(name: str) -> DeviceKind:
    """Return the kind of the device with this name.

    Raises:
        ValueError: it is no device's name.
    """
    if not is_device_name(name):
        message = f"{name!r} is no device: devices are called cpu, cuda-0, rocm-0, xpu-0 or mps-0."
        raise ValueError(message)
    return DeviceKind(name.partition("-")[0])


def number_of(name: str) -> int:
    """Return a device's number among those of its kind; the processor's is 0.

    Raises:
        ValueError: it is no device's name.
    """
    return 0 if kind_of(name) is DeviceKind.CPU else int(name.partition("-")[2])


_SPARE_BYTES: Final = 512 * 2**20
_SPARE_SHARE: Final = 0.05


def spare_card_bytes(total_bytes: int) -> int:
    """Return how much of a card's memory stays free for others: no unit may plan with it."""
    return max(_SPARE_BYTES, int(total_bytes * _SPARE_SHARE))


_RUNTIMES: Final = {
    DeviceKind.CPU: re.compile(r"cpu"),
    DeviceKind.CUDA: re.compile(r"cu\d+"),
    DeviceKind.ROCM: re.compile(r"rocm[\d.]+"),
    DeviceKind.XPU: re.compile(r"xpu"),
    DeviceKind.MPS: re.compile(r"cpu"),
}
"""The kinds of PyTorch's builds, as its own index calls them. That for macOS has MPS in it."""


def serves(runtime: str, name: str) -> bool:
    """Whether a build of PyTorch of this kind (`cpu`, `cu130`, `rocm7.1`, `xpu`) is for a device.

    A build for cards computes on the processor too, but rounds as another build: it is not for it.

    Raises:
        ValueError: it is no device's name.
    """
    return _RUNTIMES[kind_of(name)].fullmatch(runtime) is not None


def variables(name: str, uuid: str = "") -> dict[str, str]:
    """Return the environment variables that a worker on this device needs before it loads torch.

    It sees one device, its own, so that no library touches another one. By its `uuid` if that is
    known: the libraries count what they can open, and inside the sandbox that is one card. cuBLAS
    adds numbers up in one order only with workspaces of a fixed size (NVIDIA's documentation of
    cuBLAS, "Results reproducibility"). MPS has no choice of devices; an operator that it lacks is
    an error, not the processor's work.

    Raises:
        ValueError: it is no device's name.
    """
    number = str(number_of(name))
    match kind_of(name):
        case DeviceKind.CPU:
            return {}
        case DeviceKind.CUDA:
            return {
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                "CUDA_VISIBLE_DEVICES": uuid or number,
                "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
                "NVIDIA_TF32_OVERRIDE": "0",
            }
        case DeviceKind.ROCM:
            return {"ROCR_VISIBLE_DEVICES": uuid or number, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        case DeviceKind.XPU:
            return {"ONEAPI_DEVICE_SELECTOR": f"level_zero:{number}"}
        case DeviceKind.MPS:
            return {"PYTORCH_ENABLE_MPS_FALLBACK": "0"}
