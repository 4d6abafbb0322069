"""The real sensors and the real probe of the system that this runs on, whichever it is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pleb_agent.core.preferences import Preferences
from pleb_agent.sensors.machine import read_machine
from pleb_agent.sensors.system_sensors import system_sensors
from tests.platforms.real_programs import probe_line

ROOT = Path(__file__).parents[2]


def test_the_probe_reports_and_ends_with_its_input() -> None:
    kind, _method, idle_seconds, *_ = probe_line()
    assert kind in {"readable", "unreadable", "no_session"}
    assert idle_seconds >= 0


def test_every_sensor_answers_with_something_plausible() -> None:
    sensors = system_sensors(os.getpid, lambda: Preferences(pause_programs=["no such program"]))
    memory, machine = sensors.memory.read(), read_machine()
    assert memory.total is not None
    assert memory.available is not None
    assert 0 < memory.available <= memory.total
    assert 0 < memory.worker < memory.total
    assert machine.cores >= 1
    assert sensors.load.read() is None
    time.sleep(0.5)
    assert 0 <= (sensors.load.read() or 0) <= 100
    assert 0 <= (sensors.power.read().percent or 0) <= 100
    assert 0 <= (sensors.temperature.read().hottest or 0) < 150
    others = {name: other.sensor.read() for name, other in sensors.others.items()}
    assert others.pop("programs") == frozenset()
    assert set(others.values()) <= {None, True, False}
    sensors.plug.read()
    sensors.gpus.read()


@pytest.mark.parametrize("name", ["portable.txt", "posix.txt"])
def test_the_lists_of_the_workflow_name_tests_that_are_there(name: str) -> None:
    lines = (ROOT / "tests/platforms" / name).read_text("utf-8").split()
    assert lines
    assert [line for line in lines if not (ROOT / line).exists()] == []
