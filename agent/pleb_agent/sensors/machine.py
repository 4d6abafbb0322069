"""Cores, memory, disk room and graphics processors, as far as this process may use them."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from pleb_agent.sensors.gpu_drm import card_name, cards
from pleb_agent.sensors.kernel_files import read_word, sub_folders
from pleb_agent.sensors.memory import UNKNOWN_MEMORY, LinuxMemory
from pleb_agent.sensors.nvml import Nvml
from pleb_agent.sensors.pci_names import pci_name

__all__ = ["Machine", "free_disk_bytes", "read_gpu_names", "read_machine"]


@dataclass(frozen=True)
class Machine:
    """The machine's size."""

    cores: int
    """Logical processors that this process may run on."""
    memory_bytes: int
    """All of it, or what this process's control group may have of it."""
    available_bytes: int


def read_machine() -> Machine:
    """Return the machine's size now."""
    whole = psutil.virtual_memory()
    ours = LinuxMemory(_no_worker).read() if sys.platform == "linux" else UNKNOWN_MEMORY
    return Machine(
        _usable_cores(),
        whole.total if ours.total is None else ours.total,
        whole.available if ours.available is None else ours.available,
    )


def read_gpu_names(
    platform: str = sys.platform, root: Path = Path("/"), nvml: Nvml | None = None
) -> tuple[str, ...]:
    """Return the names of the graphics processors that we know to ask; none is woken on Linux."""
    if platform != "linux":
        return tuple(device.name for device in (nvml or Nvml()).devices(None))
    nvidia = [
        line.partition(":")[2].strip()
        for folder in sub_folders(root / "proc/driver/nvidia/gpus") or []
        for line in (read_word(folder / "information") or "").splitlines()
        if line.startswith("Model:")
    ]
    found = cards(root / "sys/class/drm")
    return (*nvidia, *(card_name(card, vendor, pci_name) for card, vendor in found))


def free_disk_bytes(folder: Path) -> int:
    """Return how much this user may still write where `folder` lies."""
    return shutil.disk_usage(folder).free


def _no_worker() -> None:
    """There is none to ask about."""


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
