"""A run that computes far longer than its operations explain ends the worker, with an answer."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pleb_agent.worker.channel import read_frame
from pleb_agent.worker.deadline import Deadline, run_seconds
from pleb_agent.worker.job import Failed, FailureKind, Reply
from pleb_shared.training.dry_run import Cost

ROOT = Path(__file__).parents[3]
ENDLESS = """
import sys
from pleb_agent.worker.channel import encode_frame
from pleb_agent.worker.deadline import Deadline, end_late

def send(reply):
    sys.stdout.buffer.write(encode_frame(reply))
    sys.stdout.buffer.flush()

Deadline(lambda seconds: end_late(send, seconds)).begin(0.3)
while True:
    pass
"""


def test_a_graph_that_nothing_pays_for_gets_less_than_twelve_seconds():
    most = Cost(memory_bytes=0, operations=2**33, seconds=2**33 / 2e9)
    assert run_seconds(most) < 10


@pytest.mark.slow
def test_an_endless_run_is_answered_for_and_the_process_ends():
    ended = subprocess.run(
        [sys.executable, "-c", ENDLESS], cwd=ROOT, capture_output=True, check=False
    )
    assert ended.returncode == 1
    failed: Reply = read_frame(io.BytesIO(ended.stdout), Reply)
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.STEP_TOO_LONG
    assert "far longer than its operations explain" in failed.message


@pytest.mark.slow
def test_time_without_the_processor_does_not_count():
    """A suspended process, or one that others crowd out, is not late."""
    late: list[float] = []
    used = [0.0]
    deadline = Deadline(late.append, cpu_clock=lambda: used[0])
    deadline.begin(0.3)
    time.sleep(1.5)
    assert not late
    used[0] = 1.0
    time.sleep(0.6)
    assert late == [0.3]


@pytest.mark.slow
def test_every_run_begins_anew_and_rest_ends_it():
    late: list[float] = []
    deadline = Deadline(late.append, cpu_clock=time.monotonic)
    for _ in range(4):
        deadline.begin(1.2)
        time.sleep(0.6)
    deadline.rest()
    time.sleep(1.5)
    assert not late
