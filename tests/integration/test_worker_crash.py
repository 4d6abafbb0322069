"""A worker may die at any moment: the unit's bits stay the same, and no process stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import psutil
import pytest

from pleb_agent.worker.errors import WorkerDied
from pleb_agent.worker.job import Progress
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, digest_from, undisturbed_digest, with_worker

if TYPE_CHECKING:
    from pleb_agent.worker.process import WorkerProcess

EAGER = msgspec.structs.replace(
    SETTINGS, checkpoint_seconds=0.0, checkpoint_bytes_per_second=1e12, progress_seconds=0.0
)
"""A checkpoint after every step: most kills hit the writing of one."""


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_a_unit_still_gives_the_same_bits(
    tmp_path: Path, seed: int
) -> None:
    generator = np.random.default_rng(seed)

    async def story(worker: WorkerProcess) -> None:
        job = make_job(tmp_path, steps=150, width=2000, version=2, seed=seed)
        furthest = 0
        for _ in range(5):
            reached = await killed_after(worker, job, float(generator.uniform(0.0, 0.15)))
            assert reached >= furthest
            furthest = reached
        assert 0 < furthest < 150
        assert await digest_from(worker, job) == undisturbed_digest(job)

    async def killed_after(worker: WorkerProcess, job: object, seconds: float) -> int:
        """Kill the child so long after its first step; returns the last step heard of."""
        replies = worker.run(msgspec.convert(job, type(job)))
        first = await anext(replies)
        assert isinstance(first, Progress)
        assert worker.pid is not None
        asyncio.get_running_loop().call_later(seconds, os.kill, worker.pid, signal.SIGKILL)
        steps = [first.steps_done]
        with pytest.raises(WorkerDied):
            [steps.append(r.steps_done) async for r in replies if isinstance(r, Progress)]
        return steps[0]

    with_worker(tmp_path, story, EAGER)


@pytest.mark.parametrize("damage", ["cut", "garbled", "zeros", "gone"])
def test_after_a_power_cut_the_other_checkpoint_or_a_fresh_start_serves(
    tmp_path: Path, damage: str
) -> None:
    def destroy(path: Path) -> None:
        data = path.read_bytes()
        match damage:
            case "cut":
                path.write_bytes(data[: len(data) // 2])
            case "garbled":
                path.write_bytes(data[:200] + bytes(b ^ 0x55 for b in data[200:]))
            case "zeros":
                path.write_bytes(bytes(len(data)))
            case _:
                path.unlink()

    async def story(worker: WorkerProcess) -> None:
        job = make_job(tmp_path, steps=3000)
        for hurt in (["checkpoint-0"], ["checkpoint-1"], ["checkpoint-0", "checkpoint-1"]):
            replies = worker.run(job)
            for _ in range(40):
                await anext(replies)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                [_ async for _ in replies]
            for name in hurt:
                destroy(Path(job.job_dir) / name)
        short = make_job(tmp_path, name="short", steps=60)
        for name in ("checkpoint-0", "checkpoint-1"):
            (Path(short.job_dir) / name).write_bytes((Path(job.job_dir) / "graph.json").read_bytes())
        assert await digest_from(worker, short) == undisturbed_digest(short)

    with_worker(tmp_path, story, EAGER)


PARENT = """
import asyncio, sys
from pathlib import Path
from pleb_agent.worker.job import WorkerSettings
from pleb_agent.worker.process import WorkerProcess

async def main():
    settings = WorkerSettings(threads=1, memory_bytes=2**29, low_priority=False)
    worker = WorkerProcess(Path(sys.argv[1]), settings)
    await worker.start()
    print(worker.pid, flush=True)
    if sys.argv[2] == "paused":
        await worker.pause()
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["idle", "paused", "suspended"])
def test_a_worker_dies_with_its_agent(tmp_path: Path, state: str) -> None:
    agent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), state], stdout=subprocess.PIPE
    )
    with agent:
        assert agent.stdout is not None
        worker = psutil.Process(int(agent.stdout.readline()))
        if state == "suspended":
            worker.suspend()
        agent.kill()
        psutil.wait_procs([worker], timeout=10)
        assert not worker.is_running()
