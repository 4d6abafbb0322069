"""One project or family for each process, and a process that takes more than it may is ended."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from pleb_agent.worker import child
from pleb_agent.worker.errors import BoundsExceeded, DiskRefused, Remedy
from pleb_agent.worker.process import WorkerProcess
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import (
    SETTINGS,
    WarmWorkers,
    digest_from,
    new_job,
    result_of,
    undisturbed_digest,
)

if TYPE_CHECKING:
    from pleb_agent.worker.job import Job

ROOT = Path(__file__).parents[2]
GREEDY = Path(__file__).with_name("greedy_worker.py")


def test_a_process_serves_one_project_and_stays_warm_for_it(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        pids = []
        for project in ("one", "one", "other", "one"):
            job = new_job(worker, project=project)
            assert await digest_from(worker, job) == undisturbed_digest(job)
            pids.append(worker.pid)
        assert pids[0] == pids[1]
        assert len(set(pids)) == 3

    workers.run(story)


def test_a_process_computes_for_all_members_of_a_family(workers: WarmWorkers) -> None:
    """They share a folder; models of other widths have other graphs, versions and lengths."""

    async def story(worker: WorkerProcess) -> None:
        pids = []
        for name, width in (("m-1", 32), ("m-2", 48), ("m-1", 32), ("m-2", 48), ("m-1", 32)):
            job = new_job(worker, project="family-m", of=name, width=width)
            if width == 48:
                job = msgspec.structs.replace(job, file_bytes=2 * job.file_bytes)
            assert await digest_from(worker, job) == undisturbed_digest(job)
            pids.append(worker.pid)
        assert len(set(pids)) == 2, "one more, with room for the longer model"
        assert len(set(pids[1:])) == 1
        await result_of(worker, new_job(worker, project="stranger"))
        assert worker.pid not in pids

    workers.run(story)


def test_the_next_project_sees_neither_the_memory_nor_the_descriptors_of_the_last(
    workers: WarmWorkers,
) -> None:
    async def story(worker: WorkerProcess) -> None:
        await result_of(worker, new_job(worker, project="one"))
        assert worker.pid is not None
        first = psutil.Process(worker.pid)
        await result_of(worker, new_job(worker, project="other"))
        assert not first.is_running(), "all that it held is gone"

    workers.run(story)


def test_a_model_that_grows_gets_a_process_with_longer_files(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        small = new_job(worker, project="growing")
        await result_of(worker, small)
        pid = worker.pid
        large = msgspec.structs.replace(new_job(worker, project="growing"), file_bytes=2**31)
        assert await digest_from(worker, large) == undisturbed_digest(large)
        assert worker.pid != pid

    workers.run(story)


def test_a_file_that_gets_too_long_costs_the_unit_and_not_the_disk(workers: WarmWorkers) -> None:
    """The delta does not fit: the worker says so and lives."""

    async def story(worker: WorkerProcess) -> None:
        job = new_job(worker, project="short", width=4000, steps=2)
        job = msgspec.structs.replace(job, file_bytes=20_000)
        with pytest.raises(DiskRefused, match="File too large"):
            await result_of(worker, job)
        assert all(path.stat().st_size <= 20_000 for path in job.output_dir.iterdir())
        assert worker.pid is not None

    workers.run(story)


def test_a_home_behind_links_is_found_in_the_sandbox(workers: WarmWorkers) -> None:
    async def story(worker: WorkerProcess) -> None:
        link = worker.work_dir.with_name("link")
        link.symlink_to(worker.work_dir.name, target_is_directory=True)
        (worker.work_dir / "far").mkdir()
        (worker.work_dir / "near").symlink_to("far", target_is_directory=True)
        job = make_job(link / "near", name="behind")
        assert await digest_from(worker, job) == undisturbed_digest(job)
        assert "names" in {layer.layer for layer in worker.layers if layer.holds}

    workers.run(story)


@pytest.mark.parametrize("taken", ["threads", "memory", "files"])
def test_a_process_beyond_its_bounds_is_ended_and_the_unit_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    """By the agent's own look, as no layer holds in this process."""
    command = [sys.executable, str(GREEDY), taken]
    monkeypatch.setattr(child, "worker_command", lambda _: command)
    place = subprocess.os.pathsep.join(map(str, (ROOT, *sys.path)))  # type: ignore[attr-defined]
    monkeypatch.setenv("PYTHONPATH", place)
    settings = msgspec.structs.replace(SETTINGS, memory_bytes=2**25)

    async def story() -> None:
        worker = WorkerProcess(tmp_path, settings)
        job: Job = msgspec.structs.replace(make_job(tmp_path), file_bytes=2**20)
        async with asyncio.timeout(60):
            with pytest.raises(BoundsExceeded) as caught:
                await result_of(worker, job)
        assert caught.value.remedy is Remedy.GIVE_BACK
        assert worker.pid is None
        await worker.close()

    asyncio.run(story())
