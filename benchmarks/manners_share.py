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

from benchmarks.manners_job import busy_worker
from pleb_agent.core.readiness import Limits

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


QUICK: Final = Effort(seconds=10.0, windows=1, percents=(50,), threads=(1,))
FULL: Final = Effort(seconds=10.0, windows=3, percents=(20, 50, 80), threads=(1, 2))


def measure_holding(layers: dict[int, int], *, quick: bool) -> dict[str, Any]:
    """Return by step length and threads: the worst distance from each share in any window, in
    points, and how many seconds after a long pause began the process was gone.
    """
    effort = QUICK if quick else FULL
    errors: dict[str, float] = {}
    memory_back: dict[str, float] = {}
    for (milliseconds, count), threads in product(layers.items(), effort.threads):
        name = f"{milliseconds}ms_{threads}threads"
        shares, memory_back[name] = asyncio.run(_hold(count, threads, effort))
        for percent, measured in shares.items():
            errors[f"{name}_{percent}percent"] = max((s - percent for s in measured), key=abs)
    return {
        "share_error_points": max(abs(error) for error in errors.values()),
        "ram_back_s": max(memory_back.values()),
        "share_errors": errors,
        "ram_back_by_step": memory_back,
    }


async def _hold(layers: int, threads: int, effort: Effort) -> tuple[dict[int, list[float]], float]:
    with tempfile.TemporaryDirectory(prefix="pleb-manners-") as name:
        async with busy_worker(Path(name), layers, threads, pause=LONG_PAUSE_SECONDS) as busy:
            process = psutil.Process(busy.pid)
            shares: dict[int, list[float]] = {}
            for percent in effort.percents:
                busy.worker.limit(Limits(cpu_percent=percent))
                await busy.until_told(2)
                shares[percent] = [
                    await _share(process, threads, effort.seconds) for _ in range(effort.windows)
                ]
            busy.worker.limit(Limits())
            await busy.until_told(2)
            return shares, await _memory_back(busy)


async def _share(process: psutil.Process, threads: int, seconds: float) -> float:
    """Return the processor time over the threads' time, in percent."""
    start, used = time.monotonic(), _used_seconds(process)
    await asyncio.sleep(seconds)
    return 100 * (_used_seconds(process) - used) / (threads * (time.monotonic() - start))


def _used_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _memory_back(busy: Busy) -> float:
    pid, start = busy.pid, time.monotonic()
    await busy.worker.pause()
    while psutil.pid_exists(pid):  # noqa: ASYNC110 - nothing tells of the end
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - start - LONG_PAUSE_SECONDS
