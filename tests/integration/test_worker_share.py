"""A real worker held to a share: the same bits, at once, and with the kernel's lowest priority."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import psutil

from pleb_agent.core.readiness import WorkerLimits
from pleb_agent.worker.channel import FlagPage, State
from pleb_agent.worker.process import WorkerProcess
from tests.unit.worker.running import Running
from tests.unit.worker.stories import (
    SETTINGS,
    WarmWorkers,
    digest_from,
    new_job,
    result_of,
    undisturbed_digest,
)

EAGER = msgspec.structs.replace(SETTINGS, progress_seconds=0.0, memory_bytes=2**30)
LEAST = WorkerLimits(share_percent=1)
"""One millisecond of work is followed by a tenth of a second of rest."""


def page_of(worker: WorkerProcess) -> FlagPage:
    return FlagPage(worker.work_dir.with_name(worker.work_dir.name + ".flags"))


async def until_resting(worker: WorkerProcess) -> None:
    with page_of(worker) as page:
        while page.state is not State.RESTING:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)


def test_a_share_changes_no_bit(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=60)
        worker.limit(WorkerLimits(share_percent=30))
        assert await digest_from(worker, job) == undisturbed_digest(job)

    workers.run(story, EAGER)


def test_the_processor_time_stays_within_the_share(workers: WarmWorkers) -> None:
    """Only the upper side: on a busy machine a worker may get less than its share."""

    async def story(worker: WorkerProcess) -> None:
        running = Running(worker, new_job(worker, steps=20_000))
        worker.limit(WorkerLimits(share_percent=20))
        await running.until_step(5)
        assert worker.pid is not None
        process = psutil.Process(worker.pid)
        clock = asyncio.get_running_loop().time
        start, times = clock(), process.cpu_times()
        await asyncio.sleep(4.0)
        after = process.cpu_times()
        used = after.user - times.user + after.system - times.system
        assert used <= 0.2 * (clock() - start) + 0.15
        assert used > 0.0

    workers.run(story, EAGER)


def test_another_share_ends_a_long_rest(workers: WarmWorkers) -> None:
    """At 1 % a step of a second is followed by a hundred seconds of rest."""

    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=4, width=400_000)
        worker.limit(LEAST)
        running = Running(worker, job)
        await until_resting(worker)
        seen = len(running.progress)
        worker.limit(WorkerLimits())
        await asyncio.wait_for(running.until_step(seen + 1), 60)
        assert await running.digest() == undisturbed_digest(job)

    workers.run(story, EAGER)


def test_a_resting_worker_counts_as_paused_at_once_and_stops_at_once(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=6, width=400_000)
        running = Running(worker, job)
        await running.until_step(1)
        worker.limit(LEAST)
        await until_resting(worker)
        await worker.pause()
        assert worker.pid is not None
        assert psutil.Process(worker.pid).status() != psutil.STATUS_STOPPED
        await worker.request_checkpoint_and_stop()
        assert await running.was_stopped()
        worker.limit(WorkerLimits())
        again = Running(worker, job)
        assert await again.digest() == undisturbed_digest(job)
        assert again.progress[0].steps_done == running.progress[-1].steps_done + 1

    workers.run(story, EAGER)


def test_a_worker_that_rests_does_not_tick(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        running = Running(worker, new_job(worker, steps=6, width=400_000))
        await running.until_step(1)
        worker.limit(LEAST)
        await until_resting(worker)
        await asyncio.sleep(0.3)
        before = switches(worker)
        await asyncio.sleep(0.5)
        assert switches(worker) == before

    workers.run(story, EAGER)


def switches(worker: WorkerProcess) -> list[str]:
    """How often each thread was put on a processor."""
    threads = sorted(Path(f"/proc/{worker.pid}/task").iterdir())
    return [(thread / "schedstat").read_text().split()[2] for thread in threads]


def threads_of(worker: WorkerProcess) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{worker.pid}/task").iterdir()]


def autogroup_of(worker: WorkerProcess) -> str:
    """The nice value of its scheduling autogroup."""
    return Path(f"/proc/{worker.pid}/autogroup").read_text().split()[-1]


def test_a_later_process_gets_the_smaller_memory(tmp_path: Path) -> None:
    async def story() -> None:
        worker = WorkerProcess(tmp_path, msgspec.structs.replace(SETTINGS, memory_bytes=2**30))
        ceilings = []
        for memory_bytes in (None, 2**28, 2**40):
            worker.limit(WorkerLimits(memory_bytes=memory_bytes))
            await worker.start()
            await result_of(worker, new_job(worker, steps=1))
            (sentence,) = [one.sentence for one in worker.layers if one.layer == "memory"]
            ceilings.append(int(sentence.split(" MiB")[0].split()[-1]))
            await worker.close()
        thread_mib = 16
        assert ceilings == [1024 + thread_mib, 256 + thread_mib, 1024 + thread_mib]

    asyncio.run(story())


def test_a_running_process_keeps_its_memory(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        pid = worker.pid
        worker.limit(WorkerLimits(memory_bytes=2**20))
        job = new_job(worker)
        assert await digest_from(worker, job) == undisturbed_digest(job)
        assert worker.pid == pid

    workers.run(story, EAGER)


def test_every_thread_gives_way_those_started_later_too(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, steps=500, width=512)
        running = Running(worker, job)
        await running.until_step(3)
        await worker.pause()
        threads = threads_of(worker)
        assert len(threads) >= 3  # the main one, the one that reads commands, one of torch
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_IDLE}
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {19}
        classes = {psutil.Process(thread).ionice().ioclass for thread in threads}
        assert classes == {psutil.IOPRIO_CLASS_IDLE}
        assert autogroup_of(worker) == "19"
        await worker.resume()

    settings = msgspec.structs.replace(EAGER, threads=2, low_priority=True)
    workers.run(story, settings)
