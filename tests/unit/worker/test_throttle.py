"""The share of the processor: exact on average, for short and long steps, without bursts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_agent.worker.control import Throttle


class Machine:
    """A clock and a processor that do what the test says."""

    def __init__(self, threads: int = 1) -> None:
        self.now = 100.0
        self.used = 7.0
        self.threads = threads
        self.throttle = Throttle(threads, lambda: self.now, lambda: self.used)

    def compute(self, seconds: float) -> None:
        self.now += seconds
        self.used += seconds * self.threads

    def rest(self, percent: int, late: float = 0.0) -> float:
        """Rest as long as wished, and wake up so much later."""
        seconds = self.throttle.rest_seconds(percent)
        self.now += seconds + late if seconds else 0.0
        return seconds

    def share(self, percent: int, step_seconds: float, seconds: float, late: float = 0.0) -> float:
        start, used = self.now, self.used
        while self.now - start < seconds:
            self.compute(step_seconds)
            self.rest(percent, late)
        return 100 * (self.used - used) / (self.threads * (self.now - start))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("percent", [10, 30, 50, 80, 99])
@pytest.mark.parametrize("step_seconds", [0.002, 0.2, 0.5])
def test_the_share_holds_over_ten_seconds(step_seconds: float, percent: int, threads: int) -> None:
    machine = Machine(threads)
    machine.rest(percent)
    assert machine.share(percent, step_seconds, 10.0) == pytest.approx(percent, abs=1.0)


def test_steps_of_many_seconds_get_their_share_on_average() -> None:
    machine = Machine()
    machine.rest(25)
    assert machine.share(25, 7.0, 1000.0) == pytest.approx(25, abs=0.5)


def test_waking_up_late_does_not_lower_the_share() -> None:
    machine = Machine()
    machine.rest(50)
    assert machine.share(50, 0.002, 10.0, late=0.015) == pytest.approx(50, abs=1.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5)), max_size=30), st.integers(1, 99))
def test_no_history_of_waits_gives_a_burst(
    history: list[tuple[float, float]], percent: int
) -> None:
    """A wait is a pause, a suspension, or time in which others had the processor."""
    machine = Machine()
    machine.rest(percent)
    for computed, waited in history:
        machine.compute(computed)
        machine.rest(percent)
        machine.now += waited
    start, used = machine.now, machine.used
    machine.rest(percent)
    for _ in range(100):
        machine.compute(0.01)
        machine.rest(percent)
        allowed = (machine.now - start + 0.1) * percent / 100
        assert machine.used - used <= allowed + 0.02 * percent / 100 + 0.01


def test_another_share_holds_at_once() -> None:
    machine = Machine()
    machine.rest(10)
    machine.compute(10.0)
    assert machine.throttle.rest_seconds(10) == pytest.approx(90.0)
    assert machine.throttle.rest_seconds(50) == 0.0
    machine.compute(1.0)
    assert machine.rest(50) == pytest.approx(1.0)


def test_without_a_limit_there_is_no_rest_and_no_debt() -> None:
    machine = Machine()
    machine.compute(50.0)
    assert machine.rest(100) == 0.0
    machine.rest(20)
    machine.compute(1.0)
    assert machine.rest(20) == pytest.approx(4.0)


def test_short_steps_run_together() -> None:
    machine = Machine()
    machine.rest(50)
    rests = []
    for _ in range(1000):
        machine.compute(0.002)
        rests.append(machine.rest(50))
    taken = np.array([rest for rest in rests if rest])
    assert taken.min() >= 0.02
    assert len(taken) <= 100
