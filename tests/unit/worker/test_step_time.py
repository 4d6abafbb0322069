"""The length of steps, from the worker's progress."""

from __future__ import annotations

import math

import pytest

from pleb_agent.worker.job import Progress
from pleb_agent.worker.process import StepTime


def progress(steps: int, seconds: float) -> Progress:
    return Progress(steps_done=steps, steps_total=100, loss=1.0, compute_seconds=seconds)


def test_nothing_is_known_at_first() -> None:
    assert math.isinf(StepTime().seconds)


def test_the_last_two_messages_count() -> None:
    time = StepTime()
    time.add(progress(1, 5.0))
    assert time.seconds == 5.0
    time.add(progress(11, 6.0))
    assert time.seconds == pytest.approx(0.1)


def test_the_same_step_again_changes_nothing() -> None:
    time = StepTime()
    time.add(progress(4, 2.0))
    time.add(progress(4, 2.0))
    assert time.seconds == 0.5
