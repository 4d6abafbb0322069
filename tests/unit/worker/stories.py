"""What the tests of the worker's process share: run a story with a real worker, expect a digest."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pleb_agent.worker.inputs import GraphCache, VersionCache, read_metadata, read_shards
from pleb_agent.worker.job import DeltaOutcome, Job, JobResult, Progress, WorkerSettings
from pleb_agent.worker.process import WorkerProcess
from pleb_shared.protocol.ids import digest_of
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

SETTINGS = WorkerSettings(threads=1, memory_bytes=2**29, low_priority=False)
"""Not at low priority, or a busy machine would let the tests wait."""


def with_worker(
    work_dir: Path,
    story: Callable[[WorkerProcess], Awaitable[None]],
    settings: WorkerSettings = SETTINGS,
) -> None:
    """Run `story` with a started worker and end it afterwards."""

    async def run() -> None:
        async with started(work_dir, settings) as worker:
            await story(worker)

    asyncio.run(run())


@asynccontextmanager
async def started(work_dir: Path, settings: WorkerSettings) -> AsyncIterator[WorkerProcess]:
    worker = WorkerProcess(work_dir, settings)
    try:
        await worker.start()
        yield worker
    finally:
        await worker.close()


async def result_of(worker: WorkerProcess, job: Job) -> JobResult:
    replies = [reply async for reply in worker.run(job)]
    result = replies.pop()
    assert all(isinstance(reply, Progress) for reply in replies)
    assert isinstance(result, JobResult)
    return result


async def digest_from(worker: WorkerProcess, job: Job) -> str:
    outcome = (await result_of(worker, job)).outcome
    assert isinstance(outcome, DeltaOutcome)
    return outcome.digest


def undisturbed_digest(job: Job) -> str:
    """Train in this process: no sandbox, no pipe, no checkpoint in between."""
    metadata = read_metadata(job)
    graph = GraphCache(2**31).get(job, metadata)
    version, difference = VersionCache().get(job, metadata)
    run = UnitRun(graph, metadata, job.unit, version, difference, read_shards(job))
    while run.steps_done < run.steps_total:
        run.step()
    return digest_of(run.delta())
