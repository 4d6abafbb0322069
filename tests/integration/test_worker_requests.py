"""Pause, resume, limit, stop and death in random order at random moments: a pause always holds."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pleb_agent.core.readiness import WorkerLimits
from pleb_agent.worker import child
from pleb_agent.worker.errors import JobStopped, WorkerError
from pleb_agent.worker.job import Job, JobResult, WorkerSettings
from pleb_agent.worker.process import WorkerProcess
from pleb_shared.protocol.unit import Blob, VersionSource
from tests.integration.played_worker import COUNT, STEPS
from tests.small_projects import train_unit

ROOT = Path(__file__).parents[2]
PLAYED = Path(__file__).with_name("played_worker.py")
SETTINGS = WorkerSettings(
    threads=1, memory_bytes=2**30, long_pause_seconds=0.15, stop_seconds=0.25, low_priority=False
)
SOURCE = VersionSource(
    epoch=0,
    number=0,
    digest="a" * 64,
    snapshot=Blob(digest="b" * 64, size=1),
    snapshot_number=0,
    differences=[],
)
MOST_BURNT_SECONDS = 0.03
"""A clock of the processor ticks every 10 ms."""


class Story:
    """One worker, one job, and requests in random order."""

    def __init__(self, work_dir, seed):
        self.draw = random.Random(seed)
        self.worker = WorkerProcess(work_dir / "work", SETTINGS)
        folder = str(work_dir / "work" / "project")
        self.job = Job(folder=folder, name="job", unit=train_unit(), version=SOURCE, file_bytes=100)
        self.job.output_dir.mkdir(parents=True)
        self.count = self.job.output_dir / COUNT
        self.made = []

    async def play(self):
        """Run the job until it is done, whatever happens to it, while the requests change."""
        running = asyncio.create_task(self.run())
        try:
            for _ in range(25):
                await self.make_request()
                await asyncio.sleep(self.draw.choice([0, 0.001, 0.01, 0.05, 0.2]))
            await self.worker.resume()
            async with asyncio.timeout(60):
                await running
        finally:
            running.cancel()
            pid = self.worker.pid
            await self.worker.close()
        assert pid is None or not psutil.pid_exists(pid)
        assert int(self.count.read_text()) == STEPS

    async def run(self):
        while True:
            with suppress(JobStopped, WorkerError):
                async for reply in self.worker.run(self.job):
                    if isinstance(reply, JobResult):
                        return
            await asyncio.sleep(0)

    async def make_request(self):
        act = self.draw.choice(
            [self.hold, self.hold, self.hold, self.worker.resume, self.limit, self.stop, self.kill]
        )
        self.made.append(act.__name__)
        await act()

    async def hold(self):
        """Pause, and see that nothing is computed until something else is requested."""
        await self.worker.pause()
        if not self.worker.is_paused:
            return  # it was asked to stop, and may take its time for the checkpoint
        before = self.burnt()
        await asyncio.sleep(self.draw.choice([0.0, 0.05, 0.15]))
        burnt = self.burnt() - before
        assert burnt <= MOST_BURNT_SECONDS, f"{burnt} s burnt in a pause after {self.made}"
        if self.draw.random() < 0.7:
            await self.worker.resume()

    async def limit(self):
        self.worker.limit(WorkerLimits(share_percent=self.draw.choice([20, 50, 100])))

    async def stop(self):
        await self.worker.request_checkpoint_and_stop()

    async def kill(self):
        with suppress(psutil.NoSuchProcess):
            for one in self.children():
                one.kill()

    def children(self):
        return [
            one
            for one in psutil.Process().children()
            if str(PLAYED) in " ".join(_command_line(one))
        ]

    def burnt(self):
        """Processor seconds of every worker that there is; one that has ended burns nothing."""
        seconds = 0.0
        for one in self.children():
            with suppress(psutil.NoSuchProcess):
                seconds += sum(one.cpu_times()[:2])
        return seconds


def _command_line(one):
    try:
        return one.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("seed", range(6))
def test_a_pause_holds_whatever_was_requested_before(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(child, "worker_command", lambda _: [sys.executable, str(PLAYED)])
    asyncio.run(Story(tmp_path, seed).play())


AGENT = """
import asyncio, sys
from pathlib import Path
from pleb_agent.worker import child
from pleb_agent.worker.process import WorkerProcess
from tests.integration.test_worker_requests import PLAYED, SETTINGS

async def story(work_dir):
    child.worker_command = lambda _: [sys.executable, str(PLAYED)]
    worker = WorkerProcess(work_dir, SETTINGS)
    starting = asyncio.create_task(worker.start())
    while worker.pid is None:
        await asyncio.sleep(0)
    await worker.pause()
    print(worker.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(story(Path(sys.argv[1])))
"""


def test_a_worker_that_was_suspended_while_it_started_ends_with_a_killed_agent(tmp_path):
    command = [sys.executable, "-c", AGENT, str(tmp_path / "work")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as agent:
        assert agent.stdout is not None
        worker = psutil.Process(int(agent.stdout.readline()))
        assert worker.status() == psutil.STATUS_STOPPED
        agent.kill()
    _, alive = psutil.wait_procs([worker], timeout=20)
    for one in alive:
        one.kill()
    assert not alive
