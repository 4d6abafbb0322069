"""How exactly a worker holds its share of the processor, and how fast it gives memory back."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.manners_job import busy_worker
from pleb_agent.core.readiness import Limits

__all__ = ["measure_memory_back", "measure_shares"]

POLL_SECONDS: Final = 0.005


@dataclass(frozen=True)
class ShareEffort:
    """`windows` of `seconds` for each share, step length and thread count."""

    seconds: float
    windows: int
    percents: tuple[int, ...]
    threads: tuple[int, ...]


QUICK: Final = ShareEffort(seconds=5.0, windows=1, percents=(50,), threads=(1,))
FULL: Final = ShareEffort(seconds=10.0, windows=3, percents=(20, 50, 80), threads=(1, 2))


def measure_shares(layers: dict[int, int], *, quick: bool) -> dict[str, Any]:
    """Return the worst distance from the preference in any window, in points, and each cell's."""
    effort = QUICK if quick else FULL
    errors: dict[str, float] = {}
    for milliseconds, count in layers.items():
        for threads in effort.threads:
            measured = asyncio.run(_shares(count, threads, effort))
            for percent, shares in measured.items():
                worst = max((share - percent for share in shares), key=abs)
                errors[f"{milliseconds}ms_{threads}threads_{percent}percent"] = worst
    return {"worst": max(abs(error) for error in errors.values()), "errors": errors}


async def _shares(layers: int, threads: int, effort: ShareEffort) -> dict[int, list[float]]:
    with tempfile.TemporaryDirectory(prefix="pleb-manners-") as name:
        async with busy_worker(Path(name), layers, threads) as busy:
            process = psutil.Process(busy.pid)
            measured: dict[int, list[float]] = {}
            for percent in effort.percents:
                busy.worker.limit(Limits(cpu_percent=percent))
                await busy.until_told(2)
                measured[percent] = [
                    await _share(process, threads, effort.seconds) for _ in range(effort.windows)
                ]
            return measured


async def _share(process: psutil.Process, threads: int, seconds: float) -> float:
    """Return the processor time over the threads' time, in percent."""
    start, used = time.monotonic(), _used_seconds(process)
    await asyncio.sleep(seconds)
    return 100 * (_used_seconds(process) - used) / (threads * (time.monotonic() - start))


def _used_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure_memory_back(layers: dict[int, int], *, quick: bool) -> dict[str, Any]:
    """Return how long after a long pause began the process is gone, worst and by step length."""
    repetitions = 1 if quick else 5
    by_step = {
        f"{milliseconds}ms": max(asyncio.run(_memory_back(count)) for _ in range(repetitions))
        for milliseconds, count in layers.items()
    }
    return {"worst": max(by_step.values()), "by_step": by_step}


async def _memory_back(layers: int, long_pause_seconds: float = 1.0) -> float:
    with tempfile.TemporaryDirectory(prefix="pleb-manners-") as name:
        async with busy_worker(Path(name), layers, pause=long_pause_seconds) as busy:
            pid, start = busy.pid, time.monotonic()
            await busy.worker.pause()
            while psutil.pid_exists(pid):  # noqa: ASYNC110 - nothing tells of the end
                await asyncio.sleep(POLL_SECONDS)
            return time.monotonic() - start - long_pause_seconds
