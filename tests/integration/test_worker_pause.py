"""Pausing: at once, without loss, and with the memory given back when it lasts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from pleb_agent.worker import process
from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.process import WorkerProcess
from tests.unit.worker.running import Running
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, WarmWorkers, new_job, undisturbed_digest

if TYPE_CHECKING:
    from pathlib import Path

EAGER = msgspec.structs.replace(SETTINGS, progress_seconds=0.0, memory_bytes=2**30)
IMPATIENT = msgspec.structs.replace(EAGER, long_pause_seconds=0.2)
SLOW_STEP_WIDTH = 400_000
"""A step of this model takes far longer than the 50 ms in which a pause is acknowledged."""


async def no_child(worker: WorkerProcess) -> None:
    """Wait until the child has ended. Nothing tells of it, so it has to be looked for."""
    while worker.pid is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    """Wait until the process is not even a zombie."""
    while psutil.pid_exists(pid):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_a_pause_between_short_steps_is_acknowledged_and_loses_nothing(
    workers: WarmWorkers,
) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=1500)
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

    workers.run(story, EAGER)


async def stopped(child: psutil.Process) -> bool:
    """Return whether the process is stopped; a starved thread takes the signal when it can."""
    for _ in range(50):
        if child.status() == psutil.STATUS_STOPPED:
            return True
        await asyncio.sleep(0.1)
    return False


def test_a_step_that_takes_too_long_is_suspended_in_its_middle(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=8, width=SLOW_STEP_WIDTH)
        running = Running(worker, job)
        for step in range(1, 8):
            await running.until_step(step)
            assert worker.pid is not None
            child = psutil.Process(worker.pid)
            await worker.pause()
            if await stopped(child):
                break
            await worker.resume()  # on a busy machine the pause came at the end of a step
        else:
            pytest.fail("No pause came in the middle of a step.")
        before = child.cpu_times().user
        await asyncio.sleep(0.3)
        assert child.cpu_times().user == before
        await worker.resume()
        assert await running.digest() == undisturbed_digest(job)

    workers.run(story, EAGER)


def test_the_time_of_a_suspended_step_does_not_count(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        running = Running(worker, new_job(worker, steps=3, width=SLOW_STEP_WIDTH))
        await running.until_step(1)
        await worker.pause()
        await asyncio.sleep(1.5)
        await worker.resume()
        start = time.monotonic()
        await running.digest()
        ran_seconds = time.monotonic() - start + running.progress[0].compute_seconds
        assert running.progress[-1].compute_seconds < ran_seconds + 0.75

    workers.run(story, EAGER)


def test_a_long_pause_gives_the_memory_back_and_loses_nothing(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=1500)
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
        # steps from just before the pause may be reported late; during it nothing is computed
        assert at_pause < running.progress[seen].steps_done <= at_pause + 50

    workers.run(story, IMPATIENT)


def test_a_long_pause_ends_a_suspended_worker_too(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=3, width=SLOW_STEP_WIDTH)
        running = Running(worker, job)
        await running.until_step(1)
        await worker.pause()
        await no_child(worker)
        await worker.resume()
        assert await running.digest() == undisturbed_digest(job)

    workers.run(story, IMPATIENT)


def test_a_suspended_step_is_finished_and_kept_when_there_is_time(
    workers: WarmWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LAST_STEP_SECONDS", 60.0)
    monkeypatch.setattr(process, "_LEAVE_SECONDS", 120.0)

    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=4, width=SLOW_STEP_WIDTH)
        running = Running(worker, job)
        await running.until_step(2)
        assert worker.pid is not None
        child = psutil.Process(worker.pid)
        await worker.pause()
        if child.status() != psutil.STATUS_STOPPED:  # the request came between two steps
            await worker.resume()
            await asyncio.sleep(0.05)
            await worker.pause()
        assert child.status() == psutil.STATUS_STOPPED
        seen = len(running.progress)
        await no_child(worker)
        await worker.resume()
        assert await running.digest() == undisturbed_digest(job)
        assert running.progress[seen].steps_done > running.progress[seen - 1].steps_done

    # Long enough to look at the suspended child on a busy machine before the pause gets long.
    settings = msgspec.structs.replace(EAGER, long_pause_seconds=3.0)
    workers.run(story, settings)


def test_a_checkpoint_that_takes_too_long_is_given_up(
    workers: WarmWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LAST_STEP_SECONDS", 60.0)
    monkeypatch.setattr(process, "_LEAVE_SECONDS", 0.001)

    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=3, width=SLOW_STEP_WIDTH)
        running = Running(worker, job)
        await running.until_step(1)
        pid = worker.pid
        assert pid is not None
        await worker.pause()
        await gone(pid)
        await worker.resume()
        assert await running.digest() == undisturbed_digest(job)

    workers.run(story, IMPATIENT)


@pytest.mark.parametrize("lasts", [False, True])
def test_a_pause_holds_up_a_start_too(tmp_path: Path, *, lasts: bool) -> None:
    async def story() -> None:
        worker = WorkerProcess(tmp_path, IMPATIENT if lasts else EAGER)
        job = make_job(tmp_path)
        running = Running(worker, job)
        while worker.pid is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        child = psutil.Process(worker.pid)
        await worker.pause()
        if lasts:
            await gone(child.pid)
        else:
            assert child.status() == psutil.STATUS_STOPPED
        await worker.resume()
        assert await running.digest() == undisturbed_digest(job)
        await worker.close()

    asyncio.run(story())


def test_a_start_that_has_to_leave_memory_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        worker = WorkerProcess(tmp_path, EAGER)
        starting = asyncio.create_task(worker.start())
        while worker.pid is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        await worker.request_checkpoint_and_stop()
        with pytest.raises(JobStopped):
            await starting
        await worker.start()
        assert worker.pid is not None
        await worker.close()

    asyncio.run(story())


def test_an_idle_worker_gives_its_memory_back_too(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        await worker.pause()
        await no_child(worker)
        job = new_job(worker)
        running = Running(worker, job)
        await asyncio.sleep(0.2)
        assert not running.progress
        await worker.resume()
        assert await running.digest() == undisturbed_digest(job)

    workers.run(story, IMPATIENT)


def test_a_stopped_job_resumes_where_it_stopped(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=1500)
        running = Running(worker, job)
        await running.until_step(100)
        await worker.request_checkpoint_and_stop()
        pid = worker.pid
        with pytest.raises(JobStopped):
            await running.digest()
        assert pid is not None
        await gone(pid)
        stopped_at = running.progress[-1].steps_done
        again = Running(worker, job)
        assert await again.digest() == undisturbed_digest(job)
        assert again.progress[0].steps_done == stopped_at + 1

    workers.run(story, EAGER)


@pytest.mark.parametrize("settings", [EAGER, IMPATIENT])
def test_a_paused_job_can_be_stopped(workers: WarmWorkers, settings: object) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=1500)
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

    workers.run(story, msgspec.convert(settings, type(EAGER)))


def test_a_step_that_does_not_end_is_cut_off(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        running = Running(worker, new_job(worker, steps=50, width=SLOW_STEP_WIDTH))
        await running.until_step(1)
        await worker.request_checkpoint_and_stop()
        with pytest.raises(JobStopped):
            await running.digest()

    workers.run(story, msgspec.structs.replace(EAGER, stop_seconds=0.01))


def test_stopping_without_a_job_leaves_memory_and_does_not_stop_the_next_one(
    workers: WarmWorkers,
) -> None:
    async def story(worker: WorkerProcess) -> None:
        pid = worker.pid
        assert pid is not None
        await worker.request_checkpoint_and_stop()
        await gone(pid)
        job = new_job(worker)
        assert await Running(worker, job).digest() == undisturbed_digest(job)

    workers.run(story, EAGER)
