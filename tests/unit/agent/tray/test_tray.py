"""What a click does: the request that is sent, the program that is started, what is shown after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pleb_agent.program.command import module_command
from pleb_agent.tray.look import REQUESTS, Command, State
from pleb_agent.tray.tray import Tray
from pleb_agent.tray.words import words_in
from tests.fake_agentd import FakeAgentd, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_agent.tray.look import Look


class World:
    """A tray without a face, and what it started."""

    def __init__(self, home: Path, platform: str = "linux") -> None:
        self.home = home
        self.launched: list[tuple[list[str], dict[str, str]]] = []
        self.looks: list[Look] = []
        self.tray = Tray(str(home), lambda: 0.0, words_in("en"), self._launch, platform)
        self.tray.on_look = self.looks.append
        self.broken = False

    def _launch(self, command: list[str], **environment: str) -> None:
        if self.broken:
            raise FileNotFoundError(2, "No such file or directory")
        self.launched.append((command, environment))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def agentd(tmp_path: Path) -> Iterator[FakeAgentd]:
    agentd = FakeAgentd(tmp_path)
    try:
        yield agentd
    finally:
        agentd.stop()


@pytest.mark.parametrize("command", REQUESTS)
def test_a_request_is_sent(world: World, agentd: FakeAgentd, command: Command) -> None:
    world.tray.carry_out(command)
    assert agentd.requests == [REQUESTS[command]]


def test_what_follows_is_shown_at_once(world: World, agentd: FakeAgentd) -> None:
    world.tray.carry_out(Command.PAUSE)
    assert [look.state for look in world.looks] == [State.PAUSED]


@pytest.mark.parametrize(("command", "end"), [(Command.OPEN, ""), (Command.PREFERENCES, "part")])
def test_the_page_is_opened(world: World, agentd: FakeAgentd, command: Command, end: str) -> None:
    world.tray.carry_out(command, "a-token-of-the-compositor")

    ((started, environment),) = world.launched
    address = started[-1]
    assert started[:-1] == ["xdg-open"]
    assert "/open?code=once" in address
    assert address.endswith("&part=preferences" if end else "once")
    assert environment == {"XDG_ACTIVATION_TOKEN": "a-token-of-the-compositor"}


def test_the_agent_is_started_with_its_home(world: World, tmp_path: Path) -> None:
    world.tray.carry_out(Command.START)
    command = [*module_command("pleb_agent.cli"), "start", "--home", str(tmp_path)]
    assert world.launched == [(command, {})]


def test_a_refusal_of_agentd_is_shown(world: World, agentd: FakeAgentd) -> None:
    agentd.refusal = "The unit in hand cannot be paused."
    world.tray.carry_out(Command.PAUSE)
    assert world.looks[-1].tooltip == "The unit in hand cannot be paused."


def test_without_agentd_a_request_shows_that_it_is_gone(world: World) -> None:
    world.tray.show_status(status_of())
    world.tray.carry_out(Command.PAUSE)
    assert [look.state for look in world.looks] == [State.TRAINING, State.OFFLINE]


def test_a_missing_browser_is_reported(world: World, agentd: FakeAgentd) -> None:
    world.broken = True
    world.tray.carry_out(Command.OPEN)
    assert world.looks[-1].tooltip == "This cannot be started: No such file or directory."


@pytest.mark.parametrize("is_there", [True, False])
def test_quit_ends_the_tray_and_the_agent(tmp_path: Path, is_there: bool) -> None:
    agentd = FakeAgentd(tmp_path) if is_there else None
    world = World(tmp_path)
    world.tray.carry_out(Command.QUIT)

    assert world.tray.ended
    if agentd is not None:
        assert agentd.requests == [("stop", {"finish": False})]
        agentd.stop()


def test_finishing_leaves_the_tray_until_the_agent_has_ended(
    world: World, agentd: FakeAgentd
) -> None:
    agentd.take = lambda name, body: (200, status_of())  # type: ignore[method-assign]
    world.tray.carry_out(Command.FINISH)
    assert not world.tray.ended


def test_no_change_is_not_shown(world: World) -> None:
    for _ in range(3):
        world.tray.show_status(status_of())
    assert len(world.looks) == 1


@pytest.mark.parametrize(
    ("platform", "opener"),
    [
        ("linux", ["xdg-open"]),
        ("darwin", ["open"]),
        ("win32", ["rundll32", "url.dll,FileProtocolHandler"]),
    ],
)
def test_each_system_opens_the_browser_in_its_way(
    tmp_path: Path, agentd: FakeAgentd, platform: str, opener: list[str]
) -> None:
    world = World(tmp_path, platform)
    world.tray.carry_out(Command.OPEN)
    ((started, _),) = world.launched
    assert started[:-1] == opener


def test_refusals_do_not_end_the_tray(world: World, agentd: FakeAgentd) -> None:
    agentd.refusal = "Not now."
    for command in Command:
        if command is not Command.QUIT:
            world.tray.carry_out(command)
    assert not world.tray.ended


def test_status_is_json_of_any_kind(world: World) -> None:
    odd: list[dict[str, Any]] = [{}, {"activity": 3}, {"override": "x", "unit": [], "message": 1}]
    for status in odd:
        world.tray.show_status(status)
    assert world.looks[-1].state is State.IDLE
