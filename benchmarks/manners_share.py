"""How exactly a worker holds its share of the processor, and how fast it gives memory back."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from benchmarks.manners_desktop import cpu_seconds, crowded_out_seconds
from benchmarks.manners_job import busy_worker
from pleb_agent.core.readiness import WorkerLimits

if TYPE_CHECKING:
    from benchmarks.manners_job import Busy

__all__ = ["measure_holding"]

LONG_PAUSE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.005


@dataclass(frozen=True)
class Effort:
    """`windows` of `seconds` for each share, step length and thread count."""

    seconds: float
    windows: int
    percents: tuple[int, ...]
    threads: tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """Of the threads' time: what they used, and what they waited for a processor."""

    used_percent: float
    crowded_out_percent: float


QUICK: Final = Effort(seconds=10.0, windows=1, percents=(50,), threads=(1,))
FULL: Final = Effort(seconds=10.0, windows=3, percents=(20, 50, 80), threads=(1, 2))


def measure_holding(layers: dict[int, int], *, quick: bool) -> dict[str, Any]:
    """Return by step length and threads: the worst distance from each share in any window, in
    points, and how many seconds after a long pause began the process was gone.

    `crowded_out_percent` is the most of a window that threads waited for a processor: if that is
    much, others use the machine, and a share is missed because the worker gives way.
    """
    effort = QUICK if quick else FULL
    errors: dict[str, float] = {}
    memory_back: dict[str, float] = {}
    crowded: list[float] = []
    for (milliseconds, count), threads in product(layers.items(), effort.threads):
        name = f"{milliseconds}ms_{threads}threads"
        windows, memory_back[name] = asyncio.run(_hold(count, threads, effort))
        for percent, measured in windows.items():
            distances = [window.used_percent - percent for window in measured]
            errors[f"{name}_{percent}percent"] = max(distances, key=abs)
            crowded += [window.crowded_out_percent for window in measured]
    return {
        "share_error_points": max(abs(error) for error in errors.values()),
        "ram_back_s": max(memory_back.values()),
        "crowded_out_percent": max(crowded),
        "share_errors": errors,
        "ram_back_by_step": memory_back,
    }


async def _hold(layers: int, threads: int, effort: Effort) -> tuple[dict[int, list[Window]], float]:
    with tempfile.TemporaryDirectory(prefix="pleb-manners-") as name:
        async with busy_worker(Path(name), layers, threads, pause=LONG_PAUSE_SECONDS) as busy:
            windows: dict[int, list[Window]] = {}
            for percent in effort.percents:
                busy.worker.limit(WorkerLimits(cpu_percent=percent))
                await busy.until_reported(2)
                windows[percent] = [
                    await _window(busy.pid, threads, effort.seconds) for _ in range(effort.windows)
                ]
            busy.worker.limit(WorkerLimits())
            await busy.until_reported(2)
            return windows, await _memory_back(busy)


async def _window(pid: int, threads: int, seconds: float) -> Window:
    start, used, waited = time.monotonic(), cpu_seconds(pid), crowded_out_seconds(pid)
    await asyncio.sleep(seconds)
    whole = threads * (time.monotonic() - start)
    return Window(
        100 * (cpu_seconds(pid) - used) / whole, 100 * (crowded_out_seconds(pid) - waited) / whole
    )


async def _memory_back(busy: Busy) -> float:
    pid, start = busy.pid, time.monotonic()
    await busy.worker.pause()
    while psutil.pid_exists(pid):  # noqa: ASYNC110 - no event announces the end
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - start - LONG_PAUSE_SECONDS
