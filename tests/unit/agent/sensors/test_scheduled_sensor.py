"""When a sensor is read, and what it is worth while it does not answer."""

from __future__ import annotations

import threading

import pytest

from pleb_agent.sensors.change_threshold import differs
from pleb_agent.sensors.scheduled_sensor import Pace, ScheduledSensor
from pleb_agent.sensors.scheduler import Sleeper, SlowSensorThread
from pleb_agent.sensors.sensor import Unavailable
from tests.unit.agent.sensors.fakes import FakeSensor

PERIODS = (1, 5, 30)


def scheduled(sensor=None, **options):
    return ScheduledSensor(
        sensor or FakeSensor(7), None, PERIODS, options.pop("changed", differs), **options
    )


def test_reads_fall_on_multiples_of_the_period():
    one = scheduled()
    assert one.due == float("-inf")
    one.read(102.3)
    assert one.due == 105
    one.set_pace(Pace.QUICK)
    assert one.due == 103
    one.set_pace(Pace.REST)
    assert one.due == 120
    one.hurry()
    assert one.due == float("-inf")


def test_a_read_under_way_is_never_due():
    one = scheduled()
    one.queue(100)
    assert one.due == float("inf")
    one.set_pace(Pace.QUICK)
    one.hurry()
    assert one.due == float("inf")
    one.begin(100)
    one.finish(7)
    assert one.due == float("-inf"), "the hurry was forgotten"


def test_a_sensor_that_hangs_is_not_known_until_it_answers():
    one = scheduled(deadline_seconds=5)
    one.read(100)
    one.queue(110)
    one.begin(111)
    assert one.value(115.9) == 7
    assert one.value(116.1) is None
    assert one.lose() is True
    assert one.lose() is False
    assert one.finish(7) is True
    assert one.value(200) == 7


def test_waiting_for_its_turn_is_not_hanging():
    one = scheduled(deadline_seconds=5)
    one.read(100)
    one.queue(110)
    assert one.value(1000) == 7


def test_small_steps_add_up():
    values = FakeSensor(0)
    one = scheduled(values, changed=lambda old, new: old is None or abs(new - old) >= 10)
    moved = []
    for value in (0, 4, 9, 10, 14, 19, 20, 12, 10):
        values.value = value
        moved.append(one.read(0.0))
        assert one.value(0.0) == value
    assert moved == [True, False, False, True, False, False, True, False, True]


def test_what_is_not_wanted_is_not_read():
    wanted, sensor = [True], FakeSensor(7)
    one = scheduled(sensor, wanted=lambda: wanted[0])
    assert one.skip(100) is False
    one.read(100)
    wanted[0] = False
    assert one.skip(105) is True
    assert one.due == 110
    assert one.value(105) is None
    assert sensor.reads == 1


def test_an_unavailable_sensor_says_so():
    assert Unavailable(None).read() is None


class World:
    def __init__(self):
        self.now = 0.0
        self.finished = []
        self.heard = threading.Condition()
        self.thread = SlowSensorThread(lambda: self.now, self.note)

    def note(self, changed, error):
        with self.heard:
            self.finished.append((changed, error))
            self.heard.notify_all()

    def wait(self, count):
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.finished) >= count, 30)


@pytest.fixture
def world():
    made = World()
    yield made
    made.thread.close()


def test_slow_sensors_are_read_in_turn(world):
    several = [scheduled(FakeSensor(number)) for number in range(4)]
    for one in several:
        one.queue(0)
        world.thread.submit(one)
    world.wait(4)
    assert [one.value(0) for one in several] == [0, 1, 2, 3]
    assert world.finished == [(True, None)] * 4


def test_one_that_hangs_holds_up_none_of_the_others(world):
    door, inside = threading.Event(), threading.Event()

    class Hangs:
        def read(self):
            inside.set()
            assert door.wait(30)
            return 1

    stuck, after, later = scheduled(Hangs()), scheduled(FakeSensor(2)), scheduled(FakeSensor(3))
    for one in (stuck, after):
        one.queue(0)
        world.thread.submit(one)
    assert inside.wait(30)
    assert world.thread.take_stuck() is None
    world.now = 6.0
    assert world.thread.take_stuck() is stuck
    assert world.thread.take_stuck() is None
    world.wait(1)
    assert (stuck.value(6.0), after.value(6.0)) == (None, 2)
    world.thread.submit(later)
    world.wait(2)
    assert later.value(6.0) == 3
    door.set()
    world.wait(3)
    assert stuck.value(6.0) == 1


def test_what_a_sensor_raises_is_reported(world):
    class Broken:
        def read(self):
            raise ZeroDivisionError

    one, after = scheduled(Broken()), scheduled(FakeSensor(1))
    world.thread.submit(one)
    world.thread.submit(after)
    world.wait(2)
    assert isinstance(world.finished[0][1], ZeroDivisionError)
    assert world.finished[1] == (True, None)


def test_the_sleeper_is_woken_at_once_and_once():
    sleeper = Sleeper()
    sleeper.wake()
    sleeper.wake()
    sleeper.sleep(600)
    timer = threading.Timer(0.05, sleeper.wake)
    timer.start()
    sleeper.sleep(600)
    timer.join()
    sleeper.sleep(0)
