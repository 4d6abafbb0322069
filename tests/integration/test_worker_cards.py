"""A worker's process on a card: the real process, its sandbox and pauses, over a torch with a card.

The card computes on the processor (`tests/unit/worker/fake_torch.py`); its driver is reached by a
device file that every Linux has.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.devices import FoundDevice
from pleb_agent.core.readiness import WorkerLimits
from pleb_agent.worker.errors import DeviceRefused
from pleb_agent.worker.job import DeltaOutcome, JobResult
from pleb_agent.worker.process import WorkerProcess
from pleb_agent.worker.sandbox.confine import LAYERS
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, undisturbed_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WITH_A_CARD = """
import sys
if "pleb_agent.worker.main" in " ".join(sys.orig_argv):
    from pleb_agent.core.devices import DeviceKind
    from pleb_agent.worker.devices import choice
    from tests.unit.worker.fake_torch import FakeTorch
    choice.torch = FakeTorch(DeviceKind.CUDA)
"""
CARD = FoundDevice("cuda-0", "Card", ("/dev/full",))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(WITH_A_CARD)
    root = Path(__file__).parents[2]
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(hook), str(root), *([inherited] if inherited else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return tmp_path / "work-cuda-0"


async def finished(replies: AsyncIterator[object]) -> JobResult:
    result = None
    async for reply in replies:
        result = reply
    assert isinstance(result, JobResult)
    return result


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_a_card_computes_in_its_sandbox_pauses_and_gives_its_memory_back(place: Path) -> None:
    async def story() -> None:
        settings = SETTINGS
        worker = WorkerProcess(place, settings, CARD)
        worker.limit(WorkerLimits(share_percent=60))
        try:
            runtime = await worker.start()
            assert (runtime.device, runtime.capability, runtime.threads) == ("cuda", "sm_90x132", 1)
            job = make_job(place, steps=60)
            running = asyncio.create_task(finished(worker.run(job)))
            while not worker.layers:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
            assert [one.layer for one in worker.layers if not one.holds] in ([], ["threads"])
            assert {one.layer for one in worker.layers} == {"parent", *LAYERS}
            await worker.pause()
            pid = worker.pid
            await worker.resume()
            await worker.request_checkpoint_and_stop()
            with pytest.raises(Exception, match="stopped"):
                await running
            left = worker.pid
            assert left is None, "the process, and with it the card's memory, is gone"
            result = await finished(worker.run(job))
            assert worker.pid not in {None, pid}
            assert isinstance(result.outcome, DeltaOutcome)
            assert result.outcome.digest == undisturbed_digest(job)
            assert result.peak_bytes == 1234, "what the card's memory says, not the process's"
        finally:
            await worker.close()

    asyncio.run(story())


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_a_driver_that_does_not_start_in_the_sandbox_is_said_to_refuse(place: Path) -> None:
    hook = place.parent / "hook" / "sitecustomize.py"
    hook.write_text(f'{WITH_A_CARD}    choice.torch.refusal = "no ioctl for you"\n')

    async def story() -> None:
        worker = WorkerProcess(place, SETTINGS, CARD)
        try:
            await worker.start()
            with pytest.raises(DeviceRefused, match="cuda-0 does not start: no ioctl for you"):
                await finished(worker.run(make_job(place, steps=5)))
            assert worker.pid is None
        finally:
            await worker.close()

    asyncio.run(story())
