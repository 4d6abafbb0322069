"""Pausing: at once, without loss, and with the memory given back when it lasts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.job import DeltaOutcome, JobResult, Progress
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, undisturbed_digest, with_worker

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.worker.job import Job
    from pleb_agent.worker.process import WorkerProcess

EAGER = msgspec.structs.replace(SETTINGS, progress_seconds=0.0, memory_bytes=2**30)
IMPATIENT = msgspec.structs.replace(EAGER, long_pause_seconds=0.2)
SLOW_STEP_WIDTH = 400_000
"""A step of this model takes far longer than the 50 ms in which a pause is acknowledged."""


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


async def no_child(worker: WorkerProcess) -> None:
    """Wait until the child has ended. Nothing tells of it, so it has to be looked for."""
    while worker.pid is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    """Wait until the process is not even a zombie."""
    while psutil.pid_exists(pid):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_a_pause_between_short_steps_is_acknowledged_and_loses_nothing(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = make_job(tmp_path, steps=1500)
        running = Running(worker, job)
        await running.until_step(100)
        for _ in range(3):
            pid = worker.pid
            await worker.pause()
            assert await running.steps_in(0.2) == 0
            await worker.resume()
            await running.until_step(running.progress[-1].steps_done + 50)
            assert worker.pid == pid
        assert await running.digest() == undisturbed_digest(job)

    with_worker(tmp_path, story, EAGER)


def test_a_step_that_takes_too_long_is_suspended_in_its_middle(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = make_job(tmp_path, steps=4, width=SLOW_STEP_WIDTH)
        running = Running(worker, job)
        await running.until_step(1)
        assert worker.pid is not None
        child = psutil.Process(worker.pid)
        start = time.monotonic()
        await worker.pause()
        took_seconds = time.monotonic() - start
        assert child.status() == psutil.STATUS_STOPPED
        before = child.cpu_times().user
        await asyncio.sleep(0.3)
        assert child.cpu_times().user == before
        await worker.resume()
        assert took_seconds < 0.5  # 50 ms by design; the rest is for a busy test machine
        assert await running.digest() == undisturbed_digest(job)

    with_worker(tmp_path, story, EAGER)


def test_the_time_of_a_suspended_step_does_not_count(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        running = Running(worker, make_job(tmp_path, steps=3, width=SLOW_STEP_WIDTH))
        await running.until_step(1)
        await worker.pause()
        await asyncio.sleep(3.0)
        await worker.resume()
        start = time.monotonic()
        await running.digest()
        ran_seconds = time.monotonic() - start + running.progress[0].compute_seconds
        assert running.progress[-1].compute_seconds < ran_seconds + 1.5

    with_worker(tmp_path, story, EAGER)


def test_a_long_pause_gives_the_memory_back_and_loses_nothing(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = make_job(tmp_path, steps=1500)
        running = Running(worker, job)
        await running.until_step(100)
        first = worker.pid
        assert first is not None
        await worker.pause()
        at_pause = running.progress[-1].steps_done
        await no_child(worker)
        await gone(first)
        await worker.resume()
        seen = len(running.progress)
        assert await running.digest() == undisturbed_digest(job)
        assert running.progress[seen].steps_done in {at_pause + 1, at_pause + 2}

    with_worker(tmp_path, story, IMPATIENT)


def test_a_long_pause_ends_a_suspended_worker_too(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = make_job(tmp_path, steps=3, width=SLOW_STEP_WIDTH)
        running = Running(worker, job)
        await running.until_step(1)
        await worker.pause()
        await no_child(worker)
        await worker.resume()
        assert await running.digest() == undisturbed_digest(job)

    with_worker(tmp_path, story, IMPATIENT)


def test_an_idle_worker_gives_its_memory_back_too(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        await worker.pause()
        await no_child(worker)
        job = make_job(tmp_path)
        running = Running(worker, job)
        await asyncio.sleep(0.2)
        assert not running.progress
        await worker.resume()
        assert await running.digest() == undisturbed_digest(job)

    with_worker(tmp_path, story, IMPATIENT)


def test_a_stopped_job_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = make_job(tmp_path, steps=1500)
        running = Running(worker, job)
        await running.until_step(100)
        await worker.request_checkpoint_and_stop()
        with pytest.raises(JobStopped):
            await running.digest()
        stopped_at = running.progress[-1].steps_done
        again = Running(worker, job)
        assert await again.digest() == undisturbed_digest(job)
        assert again.progress[0].steps_done == stopped_at + 1

    with_worker(tmp_path, story, EAGER)


@pytest.mark.parametrize("settings", [EAGER, IMPATIENT])
def test_a_paused_job_can_be_stopped(tmp_path: Path, settings: object) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = make_job(tmp_path, steps=1500)
        running = Running(worker, job)
        await running.until_step(100)
        await worker.pause()
        await asyncio.sleep(0.5)  # the impatient one has ended its process by now
        await worker.request_checkpoint_and_stop()
        with pytest.raises(JobStopped):
            await running.digest()
        again = Running(worker, job)
        assert await again.digest() == undisturbed_digest(job)
        assert again.progress[0].steps_done > 100

    with_worker(tmp_path, story, msgspec.convert(settings, type(EAGER)))


def test_a_step_that_does_not_end_is_cut_off(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        running = Running(worker, make_job(tmp_path, steps=50, width=SLOW_STEP_WIDTH))
        await running.until_step(1)
        await worker.request_checkpoint_and_stop()
        with pytest.raises(JobStopped):
            await running.digest()

    with_worker(tmp_path, story, msgspec.structs.replace(EAGER, stop_seconds=0.01))


def test_stopping_without_a_job_does_not_stop_the_next_one(tmp_path: Path) -> None:
    async def story(worker: WorkerProcess) -> None:
        await worker.request_checkpoint_and_stop()
        job = make_job(tmp_path)
        assert await Running(worker, job).digest() == undisturbed_digest(job)

    with_worker(tmp_path, story, EAGER)
