"""The worker asks the user's systemd, played on a real bus, for a group that gives way."""

from __future__ import annotations

import os

import pytest

from pleb_agent.worker.child import give_way_as_a_group
from pleb_agent.worker.job import Bounds, WorkerSettings, most_threads
from tests.system.desktop import session_bus
from tests.system.services import service

pytestmark = pytest.mark.system

SYSTEMD = "org.freedesktop.systemd1"
CALL = ("/org/freedesktop/systemd1", "StartTransientUnit")
SETTINGS = WorkerSettings(threads=2, memory_bytes=2**30)
JOB = ("o", ("/org/freedesktop/systemd1/job/1",))


@pytest.mark.parametrize(("knows_idle", "weights"), [(True, [0]), (False, [0, 1])])
def test_a_scope_in_the_background_with_the_least_weight_that_is_known(knows_idle, weights):
    asked = []

    def judge(body):
        name, mode, properties, others = body
        values = dict(properties)
        assert (name, mode, others) == (f"pleb-worker-{os.getpid()}.scope", "fail", [])
        assert values["PIDs"] == ("au", [os.getpid()])
        assert values["TasksMax"] == ("t", most_threads(2))
        assert 2**30 < values["MemoryMax"][1] <= Bounds.of(SETTINGS, 0).memory_bytes + 2**30
        assert values["Slice"] == ("s", "background.slice")
        asked.append(values["CPUWeight"][1])
        return JOB if knows_idle or asked[-1] else None

    with session_bus() as bus, service(bus.address, SYSTEMD) as systemd:
        systemd.judges[CALL] = judge
        outcome = give_way_as_a_group(os.getpid(), SETTINGS, bus.address)
    assert asked == weights
    assert outcome.startswith("in pleb-worker-")


def test_a_bus_without_systemd_and_no_bus_cost_nothing_but_a_sentence():
    with session_bus() as bus:
        assert "refuses" in give_way_as_a_group(os.getpid(), SETTINGS, bus.address)
    assert "no systemd" in give_way_as_a_group(os.getpid(), SETTINGS, "unix:path=/nowhere")
