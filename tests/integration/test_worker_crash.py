"""A worker may die at any moment: the unit's bits stay the same, and no process stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import psutil
import pytest

from pleb_agent.worker.errors import WorkerDied
from pleb_agent.worker.job import Progress
from tests.unit.worker.stories import (
    SETTINGS,
    WarmWorkers,
    digest_from,
    new_job,
    undisturbed_digest,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pleb_agent.worker.job import Job, JobResult
    from pleb_agent.worker.process import WorkerProcess

EAGER = msgspec.structs.replace(
    SETTINGS, checkpoint_seconds=0.0, checkpoint_bytes_per_second=1e12, progress_seconds=0.0
)
"""A checkpoint after every step: most kills hit the writing of one."""


def test_killed_at_random_moments_a_unit_still_gives_the_same_bits(workers: WarmWorkers) -> None:
    generator = np.random.default_rng(1)

    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=400, width=2000, version=2)
        reached = 0
        for _ in range(6):
            seconds = generator.uniform(0, 0.02)
            first, last = await start_and_kill(worker, job, after_steps=5, seconds=seconds)
            assert first >= reached  # of the reported steps, the last alone may be lost
            reached = last
        assert await digest_from(worker, job) == undisturbed_digest(job)

    workers.run(story, EAGER)


def test_after_a_power_cut_the_other_checkpoint_or_a_fresh_start_serves(
    workers: WarmWorkers,
) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=400)
        older, newer = (job.output_dir / f"checkpoint-{slot}" for slot in (0, 1))
        await start_and_kill(worker, job, after_steps=10)
        newer.write_bytes(newer.read_bytes()[:300])
        assert (await start_and_kill(worker, job, after_steps=10))[0] > 1
        for path in (older, newer):
            path.write_bytes(bytes(path.stat().st_size))
        assert (await start_and_kill(worker, job, after_steps=10))[0] == 1
        assert await digest_from(worker, job) == undisturbed_digest(job)

    workers.run(story, EAGER)


async def start_and_kill(
    worker: WorkerProcess, job: Job, *, after_steps: int, seconds: float = 0.0
) -> tuple[int, int]:
    """Kill the child this long after so many steps; returns its first and last reported step."""
    replies = worker.run(job)
    steps = [await anext(replies) for _ in range(after_steps)]
    assert worker.pid is not None
    asyncio.get_running_loop().call_later(seconds, os.kill, worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="-9"):
        await listen(replies, steps)
    done = [step.steps_done for step in steps if isinstance(step, Progress)]
    return done[0], done[-1]


async def listen(
    replies: AsyncIterator[Progress | JobResult], received: list[Progress | JobResult]
) -> None:
    async for reply in replies:
        received.append(reply)  # noqa: PERF401 - what came before the end counts


PARENT = """
import asyncio, sys
from pathlib import Path
from pleb_agent.worker.job import WorkerSettings
from pleb_agent.worker.process import WorkerProcess

async def main():
    settings = WorkerSettings(threads=1, memory_bytes=2**29, low_priority=False)
    worker = WorkerProcess(Path(sys.argv[1]), settings)
    await worker.start()
    if "closed" in sys.argv:
        from tests.unit.worker.sample_job import make_job

        async for _ in worker.run(make_job(Path(sys.argv[1]), steps=1)):
            pass
    print(worker.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["idle", "suspended", "closed and suspended"])
def test_a_worker_dies_with_its_agent(tmp_path: Path, state: str) -> None:
    """Also when it is behind its sandbox, and so in namespaces of its own."""
    command = [sys.executable, "-c", PARENT, str(tmp_path), *state.split()]
    agent = subprocess.Popen(command, stdout=subprocess.PIPE)
    with agent:
        assert agent.stdout is not None
        worker = psutil.Process(int(agent.stdout.readline()))
        if "suspended" in state:
            worker.suspend()
        agent.kill()
        psutil.wait_procs([worker], timeout=10)
        assert not worker.is_running()
