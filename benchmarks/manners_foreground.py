"""How much slower a foreground job gets: alone, beside our worker, beside the same at nice 19."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.manners_job import busy_worker

if TYPE_CHECKING:
    from benchmarks.manners_job import Busy

__all__ = ["measure_foreground"]

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
