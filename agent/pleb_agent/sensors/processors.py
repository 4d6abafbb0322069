"""How many processors this process may use, and how many of them are fast ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pleb_agent.sensors.kernel_files import read_number, read_word
from pleb_agent.sensors.memory import cgroup_folder

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

__all__ = ["allowed_processors", "fast_processors", "processor_quota"]

_DEVICES = Path("sys/devices")
_SLOW_SHARE = 0.9
"""A processor with less than this part of the largest one's capacity is a slow one."""


def allowed_processors() -> set[int]:
    """Return the numbers of the logical processors on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def processor_quota(root: Path = Path("/")) -> float | None:
    """Return how many processors' time the control group may use; None: it is not limited.

    The smallest quota of the group and those above it: `cpu.max` of cgroups version 2 (a
    container's `--cpus 1.5`, systemd's `CPUQuota=`), in a namespace that of its root.
    """
    folder, stop = cgroup_folder(root), root / "sys/fs/cgroup"
    quotas = []
    while folder is not None and folder.is_relative_to(stop):
        quota, _, period = (read_word(folder / "cpu.max") or "").partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period):
            quotas.append(int(quota) / int(period))
        folder = folder.parent
    return min(quotas, default=None)


def fast_processors(allowed: AbstractSet[int], root: Path = Path("/")) -> int | None:
    """Return how many of these processors are fast; None: all are alike, or it is not known.

    Intel's hybrid ones list them (`/sys/devices/cpu_core/cpus`); ARM's have a capacity each.
    """
    listed = read_word(root / _DEVICES / "cpu_core" / "cpus")
    if listed is not None and read_word(root / _DEVICES / "cpu_atom" / "cpus"):
        found = len(allowed & _numbers(listed))
        return found if 0 < found < len(allowed) else None
    folder = root / _DEVICES / "system/cpu"
    known = [read_number(folder / f"cpu{number}" / "cpu_capacity") for number in sorted(allowed)]
    capacities = [one for one in known if one]
    if not capacities or len(capacities) < len(allowed):
        return None
    fast = sum(one >= _SLOW_SHARE * max(capacities) for one in capacities)
    return fast if fast < len(allowed) else None


def _numbers(text: str) -> set[int]:
    """Return the numbers of a list such as `0-7,16` (cpuset(7), "List format")."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), int(last or first) + 1))
    return found
