"""The length of steps, from what the worker tells."""

from __future__ import annotations

import math

import pytest

from pleb_agent.worker.job import Progress
from pleb_agent.worker.pace import Pace


def told(steps: int, seconds: float) -> Progress:
    return Progress(steps_done=steps, steps_total=100, loss=1.0, compute_seconds=seconds)


def test_nothing_is_known_at_first() -> None:
    assert math.isinf(Pace().step_seconds)


def test_the_last_two_messages_count() -> None:
    pace = Pace()
    pace.add(told(1, 5.0))
    assert pace.step_seconds == 5.0
    pace.add(told(11, 6.0))
    assert pace.step_seconds == pytest.approx(0.1)


def test_the_same_step_told_again_changes_nothing() -> None:
    pace = Pace()
    pace.add(told(4, 2.0))
    pace.add(told(4, 2.0))
    assert pace.step_seconds == 0.5
