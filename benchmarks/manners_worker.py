"""A worker beside other work: slowdown of a foreground job, error of its share, memory back."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import psutil

from benchmarks.manners_desktop import cpu_seconds, crowded_out_seconds
from benchmarks.manners_job import busy_worker
from pleb_agent.core.readiness import WorkerLimits

if TYPE_CHECKING:
    from benchmarks.manners_job import Busy

__all__ = ["measure_foreground", "measure_holding"]

LONG_PAUSE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.005
CORES: Final = 2
JOB: Final = """
import json, sys, time
import numpy
a = numpy.random.default_rng(0).normal(size=(192, 192))
total = 0
sys.stdin.readline()
start = time.perf_counter()
for turn in range(int(sys.argv[1])):
    for number in range(60_000):
        total += number * number % 7
    for _ in range(8):
        a = numpy.tanh(a @ a)
print(json.dumps(time.perf_counter() - start))
"""
"""Half plain Python, half numpy: about 12 ms a turn."""


def measure_foreground(layers: int, *, quick: bool) -> dict[str, Any]:
    """Return medians of the ratios to the job alone, over interleaved triples."""
    return asyncio.run(_triples(layers, triples=3 if quick else 9, turns=100 if quick else 400))


async def _triples(layers: int, triples: int, turns: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pleb-manners-") as name:
        async with AsyncExitStack() as stack:
            ours = await stack.enter_async_context(
                busy_worker(Path(name) / "ours", layers, CORES, pause=3600.0)
            )
            await ours.worker.pause()
            nice = await stack.enter_async_context(
                busy_worker(Path(name) / "nice", layers, CORES, low_priority=False, pause=3600.0)
            )
            _be_nice(nice.pid)
            await nice.worker.pause()
            seconds: dict[str, list[float]] = {"alone": [], "ours": [], "nice": []}
            beside: dict[str, Busy | None] = {"alone": None, "ours": ours, "nice": nice}
            for triple in range(triples):
                for turn in range(len(beside)):
                    who = list(beside)[(triple + turn) % len(beside)]
                    seconds[who].append(await _run_beside(beside[who], turns))
    ratios = {
        who: [one / alone for one, alone in zip(seconds[who], seconds["alone"], strict=True)]
        for who in ("ours", "nice")
    }
    return {
        "ours": median(ratios["ours"]),
        "nice19": median(ratios["nice"]),
        "triples": triples,
        "job_seconds": median(seconds["alone"]),
        "worst_ours": max(ratios["ours"]),
        "worst_nice19": max(ratios["nice"]),
    }


def _be_nice(pid: int) -> None:
    """Give every thread nice 19 and nothing else: what `nice -n 19` does in a session."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)


async def _run_beside(busy: Busy | None, turns: int) -> float:
    if busy is None:
        return await _job_seconds(turns)
    await busy.worker.resume()
    await busy.until_reported()
    seconds = await _job_seconds(turns)
    await busy.worker.pause()
    return seconds


async def _job_seconds(turns: int) -> float:
    """Run the job on every core, each in a session of its own; return the slowest's time."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", JOB, str(turns),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=environment, start_new_session=True,
        )
        for _ in range(CORES)
    ]  # fmt: skip
    await asyncio.sleep(0.5)  # until they wait for the word
    answers = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    return max(float(json.loads(out)) for out, _ in answers)


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
                busy.worker.limit(WorkerLimits(share_percent=percent))
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
