"""Cores, memory and free disk space, as far as this process may use them."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from pleb_agent.sensors.memory import UNKNOWN_MEMORY, LinuxMemory
from pleb_agent.sensors.processors import allowed_processors, fast_processors, processor_quota

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Machine", "free_disk_bytes", "read_machine", "usable_cores"]


@dataclass(frozen=True)
class Machine:
    """The machine's size."""

    cores: int
    """Logical processors whose time this process may use."""
    memory_bytes: int
    """All of it, or what this process's control group may have of it."""
    fast_cores: int | None = None
    """How many of the processors are fast ones; None: all are alike."""
    processors: int = 0
    """Logical processors on which it may run; 0: as many as `cores`."""
    quota: float | None = None
    """How many processors' time its control group may use; None: it is not limited."""


def read_machine() -> Machine:
    """Return the machine's size now."""
    ours = LinuxMemory(lambda: None).read() if sys.platform == "linux" else UNKNOWN_MEMORY
    allowed = allowed_processors()
    on_linux = sys.platform == "linux"
    quota = processor_quota() if on_linux else None
    return Machine(
        cores=usable_cores(len(allowed), quota),
        memory_bytes=psutil.virtual_memory().total if ours.total is None else ours.total,
        fast_cores=fast_processors(allowed) if on_linux else None,
        processors=len(allowed),
        quota=quota,
    )


def usable_cores(processors: int, quota: float | None) -> int:
    """Return how many threads can be busy: no more than the quota, or they wait for each other."""
    return processors if quota is None else max(1, min(processors, math.floor(quota)))


def free_disk_bytes(folder: Path) -> int:
    """Return how much this user may still write where `folder` lies."""
    return shutil.disk_usage(folder).free
