"""What the tests of the worker's process share: real workers that stay warm, expected digests."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.core.readiness import WorkerLimits
from pleb_agent.worker.devices.cpu import Cpu
from pleb_agent.worker.inputs import BaseCache, GraphCache, VersionCache, read_metadata, read_shards
from pleb_agent.worker.job import DeltaOutcome, Job, JobResult, Progress, WorkerSettings
from pleb_agent.worker.process import WorkerProcess
from pleb_shared.protocol.ids import digest_of
from pleb_shared.training.local_sgd import UnitRun
from tests.unit.worker.sample_job import make_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SETTINGS = WorkerSettings(threads=1, memory_bytes=2**29, low_priority=False)
"""Not at low priority, or a busy machine would let the tests wait."""
_KEPT: Final = 3
_NUMBERS: Final = itertools.count()
_DIGESTS: Final[dict[tuple[bytes, str], str]] = {}


class WarmWorkers:
    """Started workers, one for each settings, that tests use one after another.

    They live in one event loop. A test that ends its worker's process leaves it to the next test
    to start another. The last few are kept: an idle one holds a quarter of a gigabyte.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runner = asyncio.Runner()
        self._workers: dict[WorkerSettings, WorkerProcess] = {}
        """The last one used is the last."""
        self._count = itertools.count()

    def run(
        self,
        story: Callable[[WorkerProcess], Awaitable[None]],
        settings: WorkerSettings = SETTINGS,
    ) -> None:
        """Run `story` with a started worker that nothing holds up."""
        self._runner.run(self._run(story, settings))

    async def _run(
        self, story: Callable[[WorkerProcess], Awaitable[None]], settings: WorkerSettings
    ) -> None:
        worker = self._workers.pop(settings, None)
        if worker is None:
            worker = WorkerProcess(self._root / f"work-{next(self._count)}", settings)
        self._workers[settings] = worker
        while len(self._workers) > _KEPT:
            await self._workers.pop(next(iter(self._workers))).close()
        if worker.pid is None:
            await worker.start()
        try:
            await story(worker)
        except BaseException:
            await self._workers.pop(settings).close()
            raise
        jobs = asyncio.all_tasks() - {asyncio.current_task()}
        for task in jobs:  # what the story has left running
            task.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        worker.limit(WorkerLimits())
        await worker.resume()

    def close(self) -> None:
        for worker in self._workers.values():
            self._runner.run(worker.close())
        self._runner.close()


def new_job(worker: WorkerProcess, **options: Any) -> Job:
    """Return a job in a new directory of the worker's; `options` as of `make_job`."""
    return make_job(worker.work_dir, name=f"job-{next(_NUMBERS)}", **options)


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
    inputs = msgspec.structs.replace(job, folder="", name="any")
    key = msgspec.json.encode(inputs), digest_of((job.input_dir / job.metadata).read_bytes())
    if key not in _DIGESTS:
        metadata = read_metadata(job)
        base = BaseCache(Cpu().place).get(job, metadata)
        graph = GraphCache(2**31, Cpu()).get(job, metadata).compiled.with_base(base)
        version, difference = VersionCache().get(job, metadata)
        run = UnitRun(graph, metadata, job.unit, version, difference, read_shards(job))
        while run.steps_done < run.steps_total:
            run.step()
        _DIGESTS[key] = digest_of(run.delta())
    return _DIGESTS[key]
