"""Which of Linux's two ways shows the icon, and when."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from jeepney import new_method_return

from pleb_agent.probe.backend import SessionLost
from pleb_agent.tray.errors import NoDisplayError
from pleb_agent.tray.linux import OLD_TRAY_AFTER_SECONDS, LinuxTray
from pleb_agent.tray.look import Command, State
from pleb_agent.tray.tray import Tray
from pleb_agent.tray.words import words_in
from tests.fake_agentd import status_of
from tests.unit.agent.tray.played_bus import Broker, member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pleb_agent.tray.look import Look


class Old:
    """An icon in an old tray; readable when the test says so."""

    def __init__(self, look: Look, on_command: Callable[[Command], None]) -> None:
        self.looks = [look]
        self.on_command = on_command
        self.is_open = True
        self.display_is_gone = False
        self._ours, self.theirs = socket.socketpair()

    def fileno(self) -> int:
        return self._ours.fileno()

    def show(self, look: Look) -> None:
        if self.display_is_gone:
            raise SessionLost("The X server has ended.")
        self.looks.append(look)

    def turn(self) -> None:
        self._ours.recv(1)
        self.on_command(Command.QUIT)

    def close(self) -> None:
        self.is_open = False
        self._ours.close()
        self.theirs.close()


class World:
    """A tray of Linux, a played bus, and the old trays that were opened."""

    def __init__(self, home: Path, broker: Broker | None, *, has_display: bool = True) -> None:
        self.now = 0.0
        self.olds: list[Old] = []
        self.has_display = has_display
        self.broker = broker
        self.tray = Tray(str(home), lambda: self.now, words_in("en"), lambda command, **_: None)
        bus = broker.bus if broker is not None else None
        self.linux = LinuxTray(self.tray, bus, "", lambda: self.now, self._open)  # type: ignore[arg-type]

    def _open(self, look: Look, on_command: Callable[[Command], None]) -> Old:
        if not self.has_display:
            raise NoDisplayError("There is none.")
        self.olds.append(Old(look, on_command))
        return self.olds[-1]

    def turn_at(self, now: float) -> None:
        """Let it be so late and something be due: agentd is looked for at every turn."""
        self.now = now
        self.tray.follower.hurry()
        self.linux._turn()

    def start(self) -> None:
        """Do what `run` does before its loop."""
        assert self.linux._bus_tray is not None
        self.linux._bus_tray.on_host = self.linux._host_changed
        self.tray.on_look = self.linux._show
        self.linux._bus_tray.start()

    def host_comes(self) -> None:
        assert self.broker is not None
        self.broker.owner("", ":1.9")
        self.turn_at(self.now)
        while member(asked := self.broker.next()) != "RegisterStatusNotifierItem":
            pass
        self.broker.send(new_method_return(asked))
        self.turn_at(self.now)


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    try:
        yield broker
    finally:
        broker.close()


@pytest.fixture
def world(tmp_path: Path, broker: Broker) -> Iterator[World]:
    world = World(tmp_path, broker)
    world.start()
    try:
        yield world
    finally:
        for old in world.olds:
            old.close()


def test_the_old_way_waits_for_the_new_one(world: World) -> None:
    world.turn_at(OLD_TRAY_AFTER_SECONDS - 0.1)
    assert world.olds == []
    world.turn_at(OLD_TRAY_AFTER_SECONDS)
    assert [old.is_open for old in world.olds] == [True]
    world.turn_at(100)
    assert len(world.olds) == 1


def test_with_a_panel_of_today_the_old_way_is_not_tried(world: World) -> None:
    world.host_comes()
    world.turn_at(100)
    assert world.olds == []


def test_a_panel_that_comes_later_takes_over(world: World) -> None:
    world.turn_at(10)
    world.host_comes()
    assert [old.is_open for old in world.olds] == [False]


def test_a_panel_that_goes_gives_the_old_way_another_chance(world: World) -> None:
    world.host_comes()
    assert world.broker is not None
    world.broker.owner(":1.9", "")
    world.turn_at(50)
    world.turn_at(50 + OLD_TRAY_AFTER_SECONDS)
    assert [old.is_open for old in world.olds] == [True]


def test_both_ways_show_the_same(world: World) -> None:
    world.turn_at(10)
    world.tray.follower._on_status(status_of("problem"))
    assert world.olds[0].looks[-1].state is State.PROBLEM


def test_a_click_into_the_old_tray_is_obeyed(world: World) -> None:
    world.turn_at(10)
    world.olds[0].theirs.send(b"!")
    world.turn_at(10)
    assert world.tray.ended


def test_a_display_that_goes_leaves_the_bus(world: World) -> None:
    world.turn_at(10)
    world.olds[0].display_is_gone = True
    world.tray.follower._on_status(status_of("problem"))
    world.tray.follower._on_status(status_of("paused"))
    assert world.tray.look.state is State.PAUSED


def test_without_a_display_the_bus_is_waited_for(tmp_path: Path, broker: Broker) -> None:
    world = World(tmp_path, broker, has_display=False)
    world.start()
    world.turn_at(10)
    world.turn_at(20)
    assert world.olds == []


def test_with_neither_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoDisplayError):
        World(tmp_path, None, has_display=False).linux.run()


def test_without_a_bus_the_old_way_is_tried_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, None)
    world.turn_at(0)
    assert [old.is_open for old in world.olds] == [True]
    world.linux._close()


@pytest.mark.parametrize("end", ["session", "home", "agent"])
def test_it_ends(tmp_path: Path, broker: Broker, end: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    world = World(home, broker)
    if end == "session":
        broker.hang_up()
    elif end == "home":
        home.rmdir()
    else:
        world.tray.follower._on_status(status_of("stopped", running=False))
    world.linux.run()
    assert broker.bus.connection.fileno() == -1
