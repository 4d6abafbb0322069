"""Cores, memory and free disk space, as far as this process may use them."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from pleb_agent.sensors.memory import UNKNOWN_MEMORY, LinuxMemory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Machine", "free_disk_bytes", "read_machine"]


@dataclass(frozen=True)
class Machine:
    """The machine's size."""

    cores: int
    """Logical processors that this process may run on."""
    memory_bytes: int
    """All of it, or what this process's control group may have of it."""


def read_machine() -> Machine:
    """Return the machine's size now."""
    ours = LinuxMemory(lambda: None).read() if sys.platform == "linux" else UNKNOWN_MEMORY
    return Machine(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        psutil.virtual_memory().total if ours.total is None else ours.total,
    )


def free_disk_bytes(folder: Path) -> int:
    """Return how much this user may still write where `folder` lies."""
    return shutil.disk_usage(folder).free
