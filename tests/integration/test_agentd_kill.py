"""kill -9 at any point: the same unit goes on, nothing is reported twice or with other bytes."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

from tests.forks import Forks
from tests.integration.agent_home import CLOCK, Agent, delivered
from tests.integration.fake_coordinator import FakeCoordinator, serving

UNITS = 3
POINTS = [
    ("write_request:before", 1),
    ("write_request:after", 1),
    ("write_request:before", 2),
    ("write_request:after", 2),
    ("work:before", 2),
    ("work:after", 1),
    ("work:after", 2),
    ("work:after", 3),
    ("settle_request:before", 1),
    ("settle_request:before", 2),
    ("settle_request:after", 1),
    ("settle_request:after", 2),
    ("finish:before", 1),
    ("finish:after", 2),
    ("put:after", 3),
    ("link:before", 2),
    ("steps_before:before", 1),
    ("result_of:before", 1),
    ("result_of:after", 2),
]
UPLOAD_POINTS = [
    ("upload_part:before", 1),
    ("upload_part:after", 1),
    ("upload_part:after", 2),
    ("settle_request:after", 2),
    ("settle:before", 1),
    ("settle:after", 1),
]


@pytest.fixture(scope="module")
def agents():
    with Forks("tests.integration.agent_process") as forks:
        yield forks


async def killed_and_restarted(agents, home, point, count, delta_bytes):
    coordinator = FakeCoordinator(CLOCK)
    coordinator.plan(UNITS)
    async with serving(coordinator) as url:
        agent = Agent(home)
        await agent.attach(coordinator.link(url))
        agent.journal.close()
        assert await agents.run(home, UNITS, point, count, delta_bytes) == -signal.SIGKILL
        done = len(delivered(coordinator))
        left = UNITS - Agent(home).journal.counters(1).get("units_done", 0)
        assert await agents.run(home, int(left), "-", 0, delta_bytes) == 0
        assert len(delivered(coordinator)) >= done
    return coordinator


def check(coordinator):
    assert delivered(coordinator) == [1, 2, 3]
    assert len(coordinator.given) == UNITS  # no unit was lost and taken anew
    reported = Counter(
        (report.assignment, report.result.digest)
        for request in coordinator.requests
        for report in request.reports
    )
    assert set(reported.values()) == {1}, reported
    assert len(reported) == UNITS
    sequences = [request.sequence for request in coordinator.requests]
    assert sequences == sorted(set(sequences))


@pytest.mark.parametrize(("point", "count"), POINTS)
def test_a_killed_agent_resumes(agents, tmp_path, point, count):
    check(asyncio.run(killed_and_restarted(agents, tmp_path, point, count, 100)))


@pytest.mark.parametrize(("point", "count"), UPLOAD_POINTS)
def test_an_agent_killed_in_an_upload_resumes_it(agents, tmp_path, point, count):
    check(asyncio.run(killed_and_restarted(agents, tmp_path, point, count, 150_000)))
