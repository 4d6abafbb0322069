"""A job in a worker, watched from beside."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.job import DeltaOutcome, JobResult, Progress

if TYPE_CHECKING:
    from pleb_agent.worker.job import Job
    from pleb_agent.worker.process import WorkerProcess


class Running:
    """A job that runs in a task of its own, observed from beside."""

    def __init__(self, worker: WorkerProcess, job: Job) -> None:
        self.worker = worker
        self.progress: list[Progress] = []
        self._task = asyncio.create_task(self._collect(job))

    async def _collect(self, job: Job) -> str:
        async for reply in self.worker.run(job):
            if isinstance(reply, JobResult):
                assert isinstance(reply.outcome, DeltaOutcome)
                return reply.outcome.digest
            self.progress.append(reply)
        raise AssertionError("the run ended without a result")

    async def digest(self) -> str:
        return await self._task

    async def until_step(self, number: int) -> None:
        while not (self.progress and self.progress[-1].steps_done >= number):
            assert not self._task.done(), self._task
            await asyncio.sleep(0.001)

    async def steps_in(self, seconds: float) -> int:
        """How many steps are heard of in this time, after those that were under way."""
        await asyncio.sleep(0.05)
        before = len(self.progress)
        await asyncio.sleep(seconds)
        return len(self.progress) - before

    async def was_stopped(self) -> bool:
        """Whether the run ended because the job was put away."""
        with suppress(JobStopped):
            await self._task
            return False
        return True
