"""What the agent's loop may rely on: the worker's process keeps it, and so does the tests' fake."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.readiness import WorkerLimits
from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.job import JobResult, Progress
from pleb_agent.worker.process import WorkerProcess
from tests.integration.fake_engine import FakeEngine
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.loop.services import Engine

STEPS = 300
SIDES = ["fake", "real"]


def engine_of(side: str, work_dir: Path) -> Engine:
    if side == "real":
        return WorkerProcess(work_dir, SETTINGS)
    fake = FakeEngine(step_seconds=0.005)
    fake.steps = STEPS
    return fake


def is_running(engine: Engine) -> bool:
    return engine.pid is not None


class Run:
    """A job that is run as a task; `steps` are those that it reported."""

    def __init__(self, engine: Engine, job) -> None:
        self.steps: list[int] = []
        self.result: JobResult | None = None
        self._stepped = asyncio.Event()
        self.task = asyncio.create_task(self._run(engine, job))

    async def _run(self, engine: Engine, job) -> None:
        async for reply in engine.run(job):
            assert self.result is None, "nothing comes after the result"
            if isinstance(reply, Progress):
                self.steps.append(reply.steps_done)
                assert reply.steps_total == STEPS
            else:
                self.result = reply
            self._stepped.set()

    async def step(self) -> None:
        """Return after the next reply."""
        self._stepped.clear()
        async with asyncio.timeout(30):
            await self._stepped.wait()


async def quiet(run: Run) -> int:
    """Return how many steps are done once nothing more comes."""
    while True:
        seen = len(run.steps)
        await asyncio.sleep(0.3)
        if len(run.steps) == seen:
            return seen


@pytest.mark.parametrize("side", SIDES)
def test_a_unit_is_paused_resumed_stopped_and_continued(tmp_path, side):
    async def story():
        engine = engine_of(side, tmp_path)
        assert not is_running(engine)
        runtime = await engine.start()
        assert is_running(engine)
        assert runtime.threads == 1
        assert await engine.start() == runtime
        engine.limit(WorkerLimits(share_percent=100))
        job = make_job(tmp_path, steps=STEPS)

        run = Run(engine, job)
        await run.step()
        await engine.pause()
        done = await quiet(run)
        assert 0 < done < STEPS
        await engine.resume()
        await run.step()
        await engine.request_checkpoint_and_stop()
        with pytest.raises(JobStopped):
            await run.task
        assert run.result is None
        assert run.steps == sorted(set(run.steps))
        assert not is_running(engine), "its memory is free"

        continued = Run(engine, job)
        await continued.task
        assert continued.steps[0] >= run.steps[-1], "from the checkpoint"
        assert continued.steps[-1] == STEPS
        assert continued.result is not None
        await engine.close()
        assert not is_running(engine)

    asyncio.run(story())


@pytest.mark.parametrize("side", SIDES)
def test_without_a_unit_a_stop_frees_the_memory_and_the_next_unit_starts_it_again(tmp_path, side):
    async def story():
        engine = engine_of(side, tmp_path)
        await engine.start()
        await engine.request_checkpoint_and_stop()
        assert not is_running(engine)
        run = Run(engine, make_job(tmp_path, steps=STEPS))
        await run.task
        assert run.result is not None
        assert is_running(engine)
        await engine.close()

    asyncio.run(story())
