"""Whatever the device is, jobs ask the one that the process has chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import torch

from pleb_agent.worker.device import Cpu, choose_device
from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.execute import Executor
from pleb_agent.worker.job import DeltaOutcome, Progress
from pleb_shared.protocol.messages import Runtime
from tests.unit.worker.sample_job import make_job
from tests.unit.worker.stories import SETTINGS, undisturbed_digest

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.worker.device import Device
    from pleb_agent.worker.job import Job, JobResult

RUNTIME = Runtime(torch="2", device="cpu", threads=1, capability="AVX2", system="linux-x86_64")
EAGER = msgspec.structs.replace(SETTINGS, progress_seconds=0.0)
LOOKS_BEFORE_STEPS = 4
"""How often a job looks whether it may go on before its first step."""


class PlayedDevice:
    """Computes as the processor does, under a name of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def warm_up(self, numerics: object) -> None:
        """Nothing is loaded late here."""

    def runtime(self, threads: int) -> Runtime:
        return msgspec.structs.replace(RUNTIME, device=self.name, threads=threads)

    def pin(self, threads: int) -> None:
        """The tests have one thread."""

    def peak_bytes(self) -> int:
        return 1234

    def give_back(self) -> None:
        """It keeps nothing."""


class Control:
    """Lets a job run, or stops it after so many looks."""

    suspensions = 0

    def __init__(self, looks: int = 10**6) -> None:
        self._left = looks

    def between_steps(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise JobStopped("enough")


class NoDeadline:
    def begin(self, seconds: float) -> None:
        """Nothing is late."""

    def rest(self) -> None:
        """Nothing is late."""


def run(device: Device, job: Job, control: Control) -> tuple[JobResult, int]:
    """Return the result and the first step that was done."""
    said: list[Progress] = []
    executor = Executor(EAGER, "native", device, control, said.append, NoDeadline())  # type: ignore[arg-type]
    return executor.execute(job), said[0].steps_done


def test_a_job_resumes_on_its_own_device_alone(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    with pytest.raises(JobStopped):
        run(PlayedDevice("one"), job, Control(LOOKS_BEFORE_STEPS + 5))
    elsewhere, first_elsewhere = run(PlayedDevice("two"), job, Control())
    result, first = run(PlayedDevice("one"), job, Control())
    assert (first_elsewhere, first) == (1, 6)
    for one in (elsewhere, result):
        assert one.peak_bytes == 1234
        assert isinstance(one.outcome, DeltaOutcome)
        assert one.outcome.digest == undisturbed_digest(job)


def test_a_process_computes_on_the_processor() -> None:
    device = choose_device()
    assert isinstance(device, Cpu)
    runtime = device.runtime(3)
    assert (runtime.device, runtime.threads) == ("cpu", 3)
    assert runtime.capability == torch.backends.cpu.get_cpu_capability()
    assert device.peak_bytes() > 2**20
    device.give_back()
