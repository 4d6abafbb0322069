"""Which changes wake the agent."""

from __future__ import annotations

import pytest

from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import Gpu, Power, PowerSource
from pleb_agent.sensors.change_threshold import ChangeThreshold
from pleb_agent.sensors.memory import Memory
from pleb_agent.sensors.temperature import Temperature

GIB = 2**30
THRESHOLD = ChangeThreshold(
    lambda: Preferences(
        cpu_others_percent=60, battery_percent=40, hottest_celsius=90, gpu_others_percent=25
    )
)


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        (None, 3.0, True),
        (3.0, None, True),
        (None, None, False),
        (3.0, 12.0, False),
        (3.0, 13.0, True),
        (59.0, 61.0, True),
        (61.0, 59.0, True),
        (60.0, 61.0, True),
        (60.0, 59.0, True),
        (61.0, 69.0, False),
    ],
)
def test_load(old, new, moved):
    assert THRESHOLD.load(old, new) is moved


def test_without_a_limit_steps_alone_count():
    free = ChangeThreshold(lambda: Preferences(cpu_others_percent=None))
    assert free.load(59.0, 61.0) is False
    assert free.load(50.0, 60.0) is True


def test_power():
    old = Power(PowerSource.BATTERY, 50.0)
    assert not THRESHOLD.power(old, Power(PowerSource.BATTERY, 49.5))
    assert THRESHOLD.power(old, Power(PowerSource.BATTERY, 49.0))
    assert THRESHOLD.power(old, Power(PowerSource.MAINS, 50.0))
    assert THRESHOLD.power(old, Power(PowerSource.BATTERY))
    assert THRESHOLD.power(Power(old.source, 40.2), Power(old.source, 39.9))


def test_temperature():
    old = Temperature(80.0, 20.0)
    assert not THRESHOLD.temperature(old, Temperature(82.0, 18.0))
    assert THRESHOLD.temperature(old, Temperature(83.0, 20.0))
    assert THRESHOLD.temperature(old, Temperature(80.0, 17.0))
    assert THRESHOLD.temperature(Temperature(89.5), Temperature(90.0))
    assert not THRESHOLD.temperature(Temperature(), Temperature())


def test_memory():
    old = Memory(20 * GIB, 10 * GIB, 0)
    assert not THRESHOLD.memory(old, Memory(20 * GIB, 10 * GIB - GIB // 2, GIB // 2))
    assert THRESHOLD.memory(old, Memory(20 * GIB, 9 * GIB, 0))
    assert THRESHOLD.memory(old, Memory(20 * GIB, 10 * GIB, GIB))
    assert THRESHOLD.memory(old, Memory(40 * GIB, 10 * GIB, 0))
    assert THRESHOLD.memory(Memory(None, None), old)


def test_gpus():
    def gpu(percent, used, name="RTX"):
        return Gpu(name, percent, used, 20 * GIB)

    old = (gpu(10.0, GIB),)
    assert not THRESHOLD.gpus(old, (gpu(15.0, GIB),))
    assert THRESHOLD.gpus(old, (gpu(20.0, GIB),))
    assert THRESHOLD.gpus((gpu(24.0, GIB),), (gpu(26.0, GIB),))
    assert THRESHOLD.gpus(old, (gpu(10.0, 2 * GIB),))
    assert THRESHOLD.gpus((gpu(10.0, 18.9 * GIB),), (gpu(10.0, 19.1 * GIB),))
    assert THRESHOLD.gpus(old, ())
    assert THRESHOLD.gpus(old, (gpu(10.0, GIB, "GTX"),))
    assert not THRESHOLD.gpus((), ())
