"""Following agentd through starts, ends and silence, on a clock of the test's own."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any

import pytest

from pleb_agent.tray.follower import (
    FIRST_RETRY_SECONDS,
    LAST_RETRY_SECONDS,
    LOOK_SECONDS,
    AgentEndedError,
    Follower,
)
from tests.fake_agentd import FakeAgentd, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class World:
    """A follower, its clock, what it reported."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = 100.0
        self.notified: list[dict[str, Any] | None] = []
        self.agentd: FakeAgentd | None = None
        self.follower = Follower(str(home), lambda: self.now, self.notified.append)

    def start(self, status: dict[str, Any] | None = None) -> FakeAgentd:
        self.agentd = FakeAgentd(self.home, status)
        return self.agentd

    def stop(self) -> None:
        if self.agentd is not None:
            self.agentd.stop()
            self.agentd = None

    def turn(self, count: int = 1) -> None:
        """Turn until `count` more statuses are reported; a second passes if need be."""
        goal = len(self.notified) + count
        while True:
            self.follower.turn()
            if len(self.notified) >= goal:
                return
            if self.follower.connection is not None:
                assert select.select([self.follower.connection], [], [], 10)[0], "nothing came"
            elif self.follower.wake_at is not None:
                self.now = max(self.now, self.follower.wake_at)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        yield world
    finally:
        world.follower.close()
        world.stop()


def test_each_change_is_reported(world: World) -> None:
    agentd = world.start()
    world.turn()
    agentd.change(status_of("paused"))
    world.turn()

    assert world.notified == [status_of(), status_of("paused")]


def test_nothing_wakes_it_while_nothing_happens(world: World) -> None:
    world.start()
    world.turn()
    world.now += LOOK_SECONDS
    world.follower.turn()

    assert world.follower.wake_at is None
    assert world.follower.connection is not None


def test_many_changes_are_one_look(world: World) -> None:
    agentd = world.start()
    world.turn()
    for step in range(50):
        agentd.change(status_of(units_finished=step))
    deadline = time.monotonic() + 30
    while agentd.events_sent < 51:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    world.follower.turn()
    assert world.notified == [status_of()]
    assert world.follower.connection is None
    assert world.follower.wake_at == world.now + LOOK_SECONDS

    world.now += LOOK_SECONDS
    world.follower.turn()
    assert world.notified == [status_of(), status_of(units_finished=49)]


def test_the_waits_for_a_missing_agent_grow(world: World) -> None:
    waits = []
    for _ in range(6):
        world.turn()
        assert world.follower.wake_at is not None
        waits.append(world.follower.wake_at - world.now)

    assert world.notified == [None] * 6
    assert waits[0] == pytest.approx(FIRST_RETRY_SECONDS)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(LAST_RETRY_SECONDS)


def test_it_is_not_turned_before_its_time(world: World) -> None:
    world.turn()
    world.follower.turn()
    world.follower.turn()

    assert world.notified == [None]


def test_after_starting_the_agent_it_retries_at_once(world: World) -> None:
    for _ in range(6):
        world.turn()
    world.follower.retry_now()

    assert world.follower.wake_at == world.now


def test_a_restart_is_followed(world: World) -> None:
    world.start()
    world.turn()
    world.stop()
    world.turn()
    world.start(status_of("idle"))
    while world.notified[-1] is None:
        world.turn()

    assert world.notified[:2] == [status_of(), None]
    assert world.notified[-1] == status_of("idle")


def test_a_stale_address_is_no_agent(world: World) -> None:
    """agentd was killed and could not take its file away."""
    world.start()
    world.stop()
    world.turn()

    assert world.notified == [None]


def test_another_token_is_no_agent(world: World) -> None:
    world.start()
    place = world.home / "agentd.json"
    place.write_text(place.read_text("utf-8").replace("a-token", "b-token"), "utf-8")
    world.turn()

    assert world.notified == [None]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"port": "x", "token": ""}', "{}"])
def test_a_garbled_file_is_no_agent(world: World, text: str) -> None:
    (world.home / "agentd.json").write_text(text, "utf-8")
    world.turn()

    assert world.notified == [None]


def test_an_agent_that_ended_well_ends_it(world: World) -> None:
    """It takes its address away; one that was killed cannot."""
    world.start()
    world.turn()
    world.stop()
    (world.home / "agentd.json").unlink()
    world.turn()  # the stream has closed
    with pytest.raises(AgentEndedError):
        world.turn()


def test_a_home_that_is_gone_ends_it(world: World) -> None:
    world.home.rmdir()
    with pytest.raises(AgentEndedError):
        world.follower.turn()
