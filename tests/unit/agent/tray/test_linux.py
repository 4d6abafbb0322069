"""The loop of the tray on Linux: what is shown on the bus, and when it ends."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from pleb_agent.tray import linux
from pleb_agent.tray.look import Command
from pleb_agent.tray.tray import Tray
from pleb_agent.tray.words import words_in
from tests.fake_agentd import FakeAgentd, status_of
from tests.unit.agent.tray.played_bus import Broker, member

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    try:
        yield broker
    finally:
        broker.close()


def tray_of(home: Path) -> Tray:
    return Tray(str(home), time.monotonic, words_in("en"), lambda command, **_: None)


def run(tray: Tray, broker: Broker) -> None:
    linux.run(tray, broker.bus, "")


def test_it_shows_what_agentd_says_and_ends_with_it(tmp_path: Path, broker: Broker) -> None:
    agentd = FakeAgentd(tmp_path)
    thread = threading.Thread(target=run, args=(tray_of(tmp_path), broker))
    thread.start()
    while member(broker.next()) != "NewIcon":
        pass
    agentd.change(status_of("stopped", running=False))
    thread.join(30)
    assert not thread.is_alive()
    agentd.stop()


@pytest.mark.parametrize("end", ["session", "home", "agent", "quit"])
def test_it_ends(tmp_path: Path, broker: Broker, end: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tray = tray_of(home)
    match end:
        case "session":
            broker.hang_up()
        case "home":
            home.rmdir()
        case "agent":
            tray.show_status(status_of("stopped", running=False))
        case _:
            tray.carry_out(Command.QUIT)
    run(tray, broker)
    assert broker.bus.fileno() == -1
