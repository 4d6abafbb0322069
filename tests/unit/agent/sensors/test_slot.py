"""When a sensor is read, and what it is worth while it does not answer."""

from __future__ import annotations

import threading

import pytest

from pleb_agent.sensors.absent import Absent
from pleb_agent.sensors.lane import Lane
from pleb_agent.sensors.material import differs
from pleb_agent.sensors.sleeper import Sleeper
from pleb_agent.sensors.slot import Pace, Slot
from tests.unit.agent.sensors.fakes import Said

PERIODS = (1, 5, 30)


def slot(sensor=None, **options):
    return Slot(sensor or Said(7), None, PERIODS, options.pop("moved", differs), **options)


def test_reads_fall_on_multiples_of_the_period():
    one = slot()
    assert one.due == float("-inf")
    one.read(102.3)
    assert one.due == 105
    one.keep(Pace.QUICK)
    assert one.due == 103
    one.keep(Pace.REST)
    assert one.due == 120
    one.hurry()
    assert one.due == float("-inf")


def test_a_read_under_way_is_never_due():
    one = slot()
    one.queue(100)
    assert one.due == float("inf")
    one.keep(Pace.QUICK)
    one.hurry()
    assert one.due == float("inf")
    one.begin(100)
    one.finish(7)
    assert one.due == float("-inf"), "the hurry was forgotten"


def test_a_sensor_that_hangs_is_not_known_until_it_answers():
    one = slot(deadline_seconds=5)
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
    one = slot(deadline_seconds=5)
    one.read(100)
    one.queue(110)
    assert one.value(1000) == 7


def test_small_steps_add_up():
    values = Said(0)
    one = slot(values, moved=lambda old, new: old is None or abs(new - old) >= 10)
    moved = []
    for value in (0, 4, 9, 10, 14, 19, 20, 12, 10):
        values.value = value
        moved.append(one.read(0.0))
        assert one.value(0.0) == value
    assert moved == [True, False, False, True, False, False, True, False, True]


def test_what_nobody_wants_to_know_is_not_read():
    wanted, sensor = [True], Said(7)
    one = slot(sensor, wanted=lambda: wanted[0])
    assert one.skip(100) is False
    one.read(100)
    wanted[0] = False
    assert one.skip(105) is True
    assert one.due == 110
    assert one.value(105) is None
    assert sensor.reads == 1


def test_an_absent_sensor_says_so():
    assert Absent(None).read() is None


class Lanes:
    def __init__(self):
        self.now = 0.0
        self.finished = []
        self.heard = threading.Condition()
        self.lane = Lane(lambda: self.now, self.note)

    def note(self, moved, error):
        with self.heard:
            self.finished.append((moved, error))
            self.heard.notify_all()

    def wait(self, count):
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.finished) >= count, 30)


@pytest.fixture
def lanes():
    made = Lanes()
    yield made
    made.lane.close()


def test_slow_sensors_are_read_in_turn(lanes):
    slots = [slot(Said(number)) for number in range(4)]
    for one in slots:
        one.queue(0)
        lanes.lane.submit(one)
    lanes.wait(4)
    assert [one.value(0) for one in slots] == [0, 1, 2, 3]
    assert lanes.finished == [(True, None)] * 4


def test_one_that_hangs_holds_up_none_of_the_others(lanes):
    door, inside = threading.Event(), threading.Event()

    class Hangs:
        def read(self):
            inside.set()
            assert door.wait(30)
            return 1

    stuck, after, later = slot(Hangs()), slot(Said(2)), slot(Said(3))
    for one in (stuck, after):
        one.queue(0)
        lanes.lane.submit(one)
    assert inside.wait(30)
    assert lanes.lane.take_stuck() is None
    lanes.now = 6.0
    assert lanes.lane.take_stuck() is stuck
    assert lanes.lane.take_stuck() is None
    lanes.wait(1)
    assert (stuck.value(6.0), after.value(6.0)) == (None, 2)
    lanes.lane.submit(later)
    lanes.wait(2)
    assert later.value(6.0) == 3
    door.set()
    lanes.wait(3)
    assert stuck.value(6.0) == 1


def test_what_a_sensor_raises_is_told(lanes):
    class Broken:
        def read(self):
            raise ZeroDivisionError

    one, after = slot(Broken()), slot(Said(1))
    lanes.lane.submit(one)
    lanes.lane.submit(after)
    lanes.wait(2)
    assert isinstance(lanes.finished[0][1], ZeroDivisionError)
    assert lanes.finished[1] == (True, None)


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
