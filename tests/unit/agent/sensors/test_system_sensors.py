"""Which sensors and which means to stay awake each system gets, chosen on Linux."""

from __future__ import annotations

import asyncio

import pytest

from pleb_agent.core.devices import FoundDevice
from pleb_agent.core.preferences import Preferences
from pleb_agent.sensors.keep_awake import Caffeinate, CannotStayAwake, stays_awake
from pleb_agent.sensors.load import LinuxLoad, PsutilLoad
from pleb_agent.sensors.logind import LogindBlock, LogindEvents
from pleb_agent.sensors.session_events import NoSessionEvents, SessionListener
from pleb_agent.sensors.system_sensors import system_sensors
from pleb_agent.sensors.windows_power import (
    WindowsEvents,
    WindowsPowerRequest,
    hold_awake,
    on_power_event,
    power_status,
)


@pytest.mark.parametrize(
    ("platform", "means"),
    [
        ("linux", LogindBlock),
        ("darwin", Caffeinate),
        ("win32", WindowsPowerRequest),
        ("freebsd14", CannotStayAwake),
    ],
)
def test_each_system_has_its_means_to_stay_awake(platform, means):
    assert type(stays_awake(platform)) is means


@pytest.mark.parametrize(
    ("platform", "load", "session"),
    [
        ("linux", LinuxLoad, LogindEvents),
        ("win32", PsutilLoad, WindowsEvents),
        ("darwin", PsutilLoad, NoSessionEvents),
        ("freebsd14", PsutilLoad, NoSessionEvents),
    ],
)
def test_each_system_has_its_sensors_and_they_can_be_read_anywhere(platform, load, session):
    sensors = system_sensors(lambda: None, Preferences, platform)
    assert type(sensors.load) is load
    assert type(sensors.session) is session
    for sensor in (sensors.plug, sensors.power, sensors.memory, sensors.temperature, sensors.gpus):
        sensor.read()
    for other in sensors.others.values():
        other.sensor.read()
    sensors.load.read()


def test_a_worker_on_a_card_alone_is_watched_as_closely_as_any():
    pids = {"cuda-0": 4711}
    cards = [FoundDevice("cuda-0", "Card")]
    sensors = system_sensors(lambda: None, Preferences, cards=cards, card_pid=pids.get)
    assert sensors.worker_pid() == 4711
    pids.clear()
    assert sensors.worker_pid() is None


def test_elsewhere_the_calls_of_windows_refuse():
    assert power_status() is None
    with pytest.raises(OSError, match="not Windows"):
        hold_awake("x")
    with pytest.raises(OSError, match="not Windows"):
        on_power_event(lambda _: None)

    async def story():
        task = asyncio.create_task(WindowsEvents().run(SessionListener(lambda _: None, story)))
        await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
