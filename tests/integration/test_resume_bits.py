"""Pausing, stopping, resuming in another process and a share of the processor change no bit.

Two honest PCs of one kind are compared by bits. So whatever the volunteer's day does to a unit, its
result, in float32 as calibrations are sent, must be the one of an undisturbed process.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec
import pytest

from pleb_agent.core.readiness import WorkerLimits
from pleb_agent.worker.process import WorkerProcess
from pleb_shared.protocol.unit import UnitKind
from tests.unit.worker.running import Running
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, digest_from

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.worker.job import Job

STEPS = 60
WIDTH = 2048
"""Wide enough that two threads share the work of one operator."""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_disturbed_unit_has_the_bits_of_an_undisturbed_one(tmp_path: Path, threads: int) -> None:
    settings = msgspec.structs.replace(
        SETTINGS, threads=threads, memory_bytes=2**30, progress_seconds=0.0, checkpoint_seconds=0.05
    )
    draw = random.Random(threads)

    def job(worker: WorkerProcess, name: str) -> Job:
        kind = UnitKind.CALIBRATE  # in float32, so that no rounding hides a difference
        folder = worker.work_dir
        return make_job(
            folder, name=name, kind=kind, version=2, steps=STEPS, width=WIDTH, seed=threads
        )

    async def story() -> tuple[str, str]:
        worker = WorkerProcess(tmp_path, settings)
        expected = await digest_from(worker, job(worker, "calm"))
        unit = job(worker, "disturbed")
        for stop_at in sorted(draw.sample(range(5, STEPS - 5), 3)):
            running = Running(worker, unit)
            await running.until_step(stop_at - draw.randrange(1, 4))
            worker.limit(WorkerLimits(share_percent=draw.choice([30, 60, 100])))
            await worker.pause()
            await asyncio.sleep(draw.uniform(0, 0.2))
            await worker.resume()
            await worker.request_checkpoint_and_stop()
            if not await running.was_stopped():
                pytest.fail("the unit was finished before it was stopped")
            assert worker.pid is None, "the next part must run in another process"
            worker.limit(WorkerLimits())
        found = await digest_from(worker, unit)
        await worker.close()
        return expected, found

    expected, found = asyncio.run(story())
    assert found == expected
