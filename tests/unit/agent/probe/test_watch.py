"""When the probe looks, when it says something, and when it only waits."""

from __future__ import annotations

import pytest

from pleb_agent.dbus.stream import ServiceLost
from pleb_agent.probe.backend import QUIET_SECONDS
from pleb_agent.probe.lines import Line
from pleb_agent.probe.watch import Watch


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeBackend:
    """Input as a test says; `pushes`: whether it signals by itself."""

    method = "X11"

    def __init__(self, clock: Clock, *, pushes: bool = True) -> None:
        self.clock = clock
        self.pushes = pushes
        self.last_input = clock.now
        self.armed = 0
        self.input_while_arming = False
        self.locked = self.fullscreen = self.in_use = self.lost = self.closed = False

    def fileno(self) -> int:
        return 3 if self.pushes else -1

    def arm(self) -> None:
        self.armed += 1
        if self.input_while_arming:
            self.last_input = self.clock.now

    def idle_seconds(self) -> float:
        if self.lost:
            raise ServiceLost("gone")
        return self.clock.now - self.last_input

    def take(self) -> None:
        if self.lost:
            raise ServiceLost("gone")

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self, *, pushes: bool = True, sources: int = 0) -> None:
        self.clock = Clock()
        self.backend = FakeBackend(self.clock, pushes=pushes)
        self.sources = [FakeBackend(self.clock) for _ in range(sources)]
        self.said: list[Line] = []
        self.watch = Watch(self.backend, self.sources, report=self.said.append, clock=self.clock)

    def after(self, seconds: float, *, touched: bool = False, asked: bool = False) -> list[Line]:
        """Look after some seconds; return what is said."""
        self.clock.now += seconds
        if touched:
            self.backend.last_input = self.clock.now
        before = len(self.said)
        self.watch.look(ready=[self.backend] if touched else [], asked=asked)
        return self.said[before:]


def test_the_first_look_reports_the_state() -> None:
    world = World()
    assert world.after(0) == [Line("readable", "X11", 0.0)]


def test_continued_input_is_reported_at_each_look() -> None:
    world = World()
    world.after(0)
    for _ in range(3):
        assert world.watch.wait_seconds() == QUIET_SECONDS
        assert [line.idle_seconds for line in world.after(QUIET_SECONDS, touched=True)] == [0]
    assert world.backend.armed == 0


def test_idleness_is_no_news_and_waits_for_a_push() -> None:
    world = World()
    world.after(0)
    assert world.after(QUIET_SECONDS) == []
    assert world.watch.wait_seconds() is None
    assert world.backend.armed == 1
    assert world.after(3600) == []
    assert world.backend.armed == 1
    assert [line.idle_seconds for line in world.after(1, touched=True)] == [0]
    assert world.after(QUIET_SECONDS) == []
    assert world.backend.armed == 2


def test_half_an_idle_time_is_waited_out() -> None:
    world = World()
    world.after(0)
    world.after(2)
    assert world.watch.wait_seconds() == QUIET_SECONDS - 2
    world.after(QUIET_SECONDS - 2 - 0.01)
    assert world.watch.wait_seconds() == 1.0  # no run of ever shorter looks


def test_input_between_the_look_and_the_arming_is_seen() -> None:
    world = World()
    world.after(0)
    world.backend.input_while_arming = True
    assert [line.idle_seconds for line in world.after(QUIET_SECONDS)] == [0]
    assert world.watch.wait_seconds() == QUIET_SECONDS


def test_an_earlier_last_input_is_reported_too() -> None:
    world = World()
    world.after(0)
    world.after(5, touched=True)
    world.backend.last_input -= 4  # now it is known better
    assert [line.idle_seconds for line in world.after(1)] == [5]


def test_a_question_is_answered() -> None:
    world = World()
    world.after(0)
    assert world.after(60, asked=True) == [Line("readable", "X11", 60.0)]


def test_a_system_without_signals_is_polled_often_only_when_needed() -> None:
    world = World(pushes=False)
    world.after(0)
    world.after(QUIET_SECONDS)
    assert world.watch.waiting_on == []
    assert world.watch.wait_seconds() == QUIET_SECONDS
    world.watch.closely = True
    assert world.watch.wait_seconds() == pytest.approx(0.1)


def test_locks_and_full_screens_of_any_source_are_reported_once() -> None:
    world = World(sources=2)
    world.after(0)
    for name in ("locked", "fullscreen"):
        for value in (True, False):
            setattr(world.sources[1], name, value)
            (line,) = world.after(1)
            assert getattr(line, name) is value
            assert world.after(1) == []


def test_another_user_at_the_pc_counts_as_input_all_the_time() -> None:
    world = World(sources=1)
    world.after(0)
    world.after(60)
    world.sources[0].in_use = world.sources[0].locked = True  # a change of users locks ours
    (line,) = world.after(1)
    assert (line.idle_seconds, line.locked) == (0, False)
    assert world.watch.wait_seconds() == QUIET_SECONDS
    assert [line.idle_seconds for line in world.after(QUIET_SECONDS)] == [0]
    world.sources[0].in_use = False
    (line,) = world.after(1)
    assert (line.idle_seconds, line.locked) == (62 + QUIET_SECONDS, True)


def test_a_source_that_fails_is_dropped() -> None:
    world = World(sources=2)
    world.sources[0].locked = True
    assert world.after(0)[0].locked
    world.sources[0].lost = True
    world.watch.look(ready=[world.sources[0]])
    assert not world.said[-1].locked
    assert world.sources[0].closed
    assert world.watch.waiting_on == [world.backend, world.sources[1]]


def test_a_lost_backend_ends_the_watch() -> None:
    world = World(sources=1)
    world.after(0)
    world.backend.lost = True
    with pytest.raises(ServiceLost):
        world.after(1)
    world.watch.close()
    assert world.backend.closed
    assert world.sources[0].closed
