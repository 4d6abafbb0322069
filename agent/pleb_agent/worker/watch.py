"""The agent's own look at what its worker takes, on every system.

On Linux the kernel's limits come first; what it does not count exactly there, and everything on
systems without such limits, is bounded by this: a worker beyond its bounds is ended within a second
or two.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from pleb_agent.worker.job import INPUTS, OUTPUT_FILES, OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_agent.worker.job import Bounds

__all__ = ["LOOK_SECONDS", "Usage", "excess", "measure"]

LOOK_SECONDS: Final = 1.0
"""Between two looks."""
_MEMORY_MARGIN_BYTES: Final = 256 * 2**20
"""For pages of libraries, which are touched late, and are not the unit's."""
_LOG_BYTES: Final = 16 * 2**20
_MOST_FILES: Final = 10_000
_BLOCK_BYTES: Final = 512


@dataclass(frozen=True)
class Usage:
    """What a worker takes now."""

    resident_bytes: int
    threads: int
    disk_bytes: int
    """In its project's outputs and its log."""
    units: int
    """How many the agent has laid out for it."""


def measure(pid: int, folder: Path, log: Path) -> Usage:
    """Return what the worker takes. Blocks for some milliseconds at most.

    Raises:
        ProcessLookupError: it has ended.
    """
    try:
        process = psutil.Process(pid)
        resident, threads = process.memory_info().rss, process.num_threads()
    except psutil.Error as error:
        raise ProcessLookupError(str(error)) from error
    disk = 0
    for number, size in enumerate(_sizes([folder / OUTPUTS, log])):
        disk += size
        if number > _MOST_FILES:
            disk += 2**62  # nobody has allowed so many
            break
    units = 0
    with suppress(OSError):
        units = len(list((folder / INPUTS).iterdir()))
    return Usage(resident_bytes=resident, threads=threads, disk_bytes=disk, units=units)


def excess(usage: Usage, idle: Usage, bounds: Bounds) -> str:
    """Return a sentence about what goes beyond `bounds`; empty: nothing does.

    `idle`: what the worker took before its first unit.
    """
    if usage.threads > bounds.most_threads:
        return f"The worker had {usage.threads} threads, and was ended."
    if usage.resident_bytes > idle.resident_bytes + bounds.memory_bytes + _MEMORY_MARGIN_BYTES:
        return f"The worker took {usage.resident_bytes >> 20} MiB of memory, and was ended."
    if usage.disk_bytes > usage.units * len(OUTPUT_FILES) * bounds.file_bytes + _LOG_BYTES:
        return "The worker wrote more to the disk than its units need, and was ended."
    return ""


def _sizes(places: list[Path]) -> Iterator[int]:
    """Yield the size on the disk of every file below; links are not followed."""
    while places:
        place = places.pop()
        with suppress(OSError):
            found = place.lstat()
            if stat.S_ISDIR(found.st_mode):
                places += [Path(entry.path) for entry in os.scandir(place)]
            blocks = getattr(found, "st_blocks", None)
            yield found.st_size if blocks is None else blocks * _BLOCK_BYTES
