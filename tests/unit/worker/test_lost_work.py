"""How much work a sudden end costs: the bound on checkpoints, over whole made-up units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pleb_agent.worker.devices.cpu import Cpu
from pleb_agent.worker.execute import Steps, StepTimes
from pleb_agent.worker.job import WorkerSettings
from tests.unit.worker.checkpoints import UNIT

if TYPE_CHECKING:
    from pleb_agent.worker.checkpoint import Checkpoint

SETTINGS = WorkerSettings(threads=1, memory_bytes=2**20)


class Killed(Exception):
    """The end of the process."""


class MadeUpUnit:
    """Steps and saves that take time on a clock of its own, until the time of its end.

    It stands for the unit, for its files and for the agent's wishes.
    """

    def __init__(self, step_seconds: list[float], state_bytes: int, end: float) -> None:
        self.now = 0.0
        self.steps_done = 0
        self.steps_total = len(step_seconds)
        self.suspensions = 0
        self.saved = 0.0
        """When what is in the newest whole checkpoint had been computed."""
        self.written_bytes = 0
        self._step_seconds = step_seconds
        self._state_bytes = state_bytes
        self._end = end

    def clock(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self._end:
            raise Killed

    def step(self) -> float:
        self.pass_time(self._step_seconds[self.steps_done])
        self.steps_done += 1
        return 1.0

    def state(self) -> bytes:
        return bytes(self._state_bytes)

    def save(self, checkpoint: Checkpoint) -> int:
        computed = self.now
        self.pass_time(len(checkpoint.state) / 100e6)
        self.saved = computed
        self.written_bytes += len(checkpoint.state)
        return len(checkpoint.state)

    def between_steps(self) -> None:
        """Never held up."""


class Job:
    unit = UNIT
    version = type("Version", (), {"digest": "ab"})


def run_until(unit: MadeUpUnit) -> None:
    steps = Steps(Job(), unit, unit, SETTINGS, "here", StepTimes(1), Cpu())  # type: ignore[arg-type]
    with pytest.raises(Killed):
        steps.finish(unit, lambda _: None, unit.clock)  # type: ignore[arg-type]


@pytest.mark.parametrize("state_bytes", [1_000, 20_000_000, 100_000_000])
@pytest.mark.parametrize("typical_seconds", [0.05, 2.0, 50.0])
def test_a_sudden_end_costs_one_interval_and_one_step_at_most(
    typical_seconds: float, state_bytes: int
) -> None:
    """DESIGN: a checkpoint every max(30 s, state bytes / 0.5 MB/s)."""
    generator = np.random.default_rng(int(1000 * typical_seconds) + state_bytes)
    interval = max(30.0, state_bytes / 0.5e6)
    save_seconds = state_bytes / 100e6
    for _ in range(20):
        length = generator.uniform(5, 1500)
        count = int(3000 / typical_seconds)
        step_seconds = generator.uniform(0.5, 1.5, count) * typical_seconds
        unit = MadeUpUnit(list(step_seconds), state_bytes, length)
        run_until(unit)
        lost = unit.now - unit.saved
        assert lost <= interval + 2 * max(step_seconds) + 2 * save_seconds
        rate = min(0.5e6, state_bytes / 30)
        assert unit.written_bytes <= rate * length + state_bytes  # the first comes after 30 s
