"""The tray that the real agentd starts, in Xfce's panel."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pleb_agent.app.home import Home
from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.program.command import module_command
from tests.system.desktop import run, started, until
from tests.system.tray_desktop import changed, desktop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.system.tray_desktop import Box, Desktop

pytestmark = pytest.mark.system

CLI = module_command("pleb_agent.cli")


class World:
    """A desktop with a panel, and the agent of a home."""

    def __init__(self, place: Desktop, home: Path) -> None:
        self.desktop = place
        self.home = Home(home)
        place.pointer_away()
        until(place.has_panel, "the panel")
        self.empty = place.still_picture()

    def start_command(self) -> Sequence[str]:
        return [*CLI, "start", "--home", str(self.home.path)]

    def icon(self) -> Box:
        return self.desktop.change(self.empty, "the icon")

    def pid(self) -> int:
        """Return agentd's process; 0: none has said that it is ready."""
        try:
            return int(json.loads(self.home.control.read_text("utf-8"))["pid"])
        except FileNotFoundError:
            return 0

    def status(self) -> dict[str, Any]:
        """Return what agentd says; nothing while it is gone."""
        try:
            return Remote(self.home).get("status")
        except NotRunningError:
            return {}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with desktop(tmp_path) as place, place.xfce_panel():
        yield World(place, tmp_path / "agent")


def test_its_life(world: World) -> None:
    with started(world.start_command(), world.desktop.environment) as agentd:
        icon = world.icon()
        world.desktop.keep("tray-agentd-started")

        # "Pause" of the menu is agentd's pause.
        picture = world.desktop.picture()
        world.desktop.click(icon, 3)
        world.desktop.change(picture, "the menu")
        world.desktop.keep("tray-agentd-menu")
        world.desktop.keys("Down", "Return")
        until(lambda: world.status().get("paused"), "the pause")
        until(lambda: world.status()["override"]["kind"] == "pause", "the wish")

        # A click on the icon opens the page by an address that works once.
        world.desktop.click(icon, 1)
        until(lambda: world.desktop.opened, "the browser")
        assert world.desktop.opened[0].startswith("http://127.0.0.1:")

        # Stopped on purpose: the icon goes too.
        run([*CLI, "stop", "--home", str(world.home.path)], world.desktop.environment)
        assert agentd.wait(30) == 0
        world.desktop.pointer_away()
        until(lambda: changed(world.empty, world.desktop.picture()) is None, "an empty panel")


def test_killed_and_started_again_from_the_tray(world: World) -> None:
    with started(world.start_command(), world.desktop.environment) as agentd:
        icon = world.icon()
        working = world.desktop.still_picture()
        until(world.pid, "agentd")
        os.kill(world.pid(), signal.SIGKILL)
        assert agentd.wait(30) == -signal.SIGKILL
        world.desktop.change(working, "the icon of an agent that is gone")
        world.desktop.keep("tray-agentd-killed")

        killed = world.pid()
        world.desktop.click(icon, 1)
        try:
            until(lambda: world.status().get("running"), "the agent that the tray started")
            assert world.pid() != killed
            world.desktop.pointer_away()
            until(lambda: changed(working, world.desktop.picture()) is None, "its icon")
        finally:
            with suppress(ProcessLookupError):
                os.kill(world.pid(), signal.SIGTERM)
        until(lambda: changed(world.empty, world.desktop.picture()) is None, "an empty panel")
