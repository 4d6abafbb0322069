"""The tray in Xfce's panel: a real display, a real bus, a real mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.fake_agentd import FakeAgentd, status_of
from tests.system.desktop import clean_environment, until
from tests.system.tray_desktop import PANEL_HEIGHT, Desktop, desktop, tray_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.tray_desktop import Box, Program

pytestmark = pytest.mark.system

UNIT = {"project": "classify", "version": 12, "steps_done": 40, "steps_total": 100}
STATES = ("idle", "working", "paused", "offline", "problem")
MOST_RESIDENT_BYTES = 15 * 10**6


class World:
    """A desktop, its panel, an agentd, and the tray in between."""

    def __init__(self, place: Desktop, home: Path) -> None:
        self.desktop = place
        self.home = home
        self.agentd = FakeAgentd(home, status_of(unit=UNIT))
        self.empty = empty_panel(place)

    def icon(self, what: str = "the icon") -> Box:
        """Return where the icon is: the only thing that is not in an empty panel."""
        return self.desktop.change(self.empty, what)

    def cut(self, box: Box) -> np.ndarray:
        left, top, right, bottom = box
        return self.desktop.picture()[top:bottom, left:right]

    def shows(self, box: Box, picture: np.ndarray) -> bool:
        return bool((self.cut(box) == picture).all())

    def requests(self, count: int) -> list[tuple[str, dict[str, object]]]:
        until(lambda: len(self.agentd.requests) >= count, "the wish")
        return self.agentd.requests


def empty_panel(place: Desktop) -> np.ndarray:
    """Return the screen with a panel in which nothing is, once it is there."""
    place.pointer_away()
    until(place.has_panel, "the panel")
    return place.still_picture()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    home = tmp_path / "home"
    home.mkdir()
    with desktop(tmp_path) as place, place.xfce_panel():
        world = World(place, home)
        try:
            yield world
        finally:
            world.agentd.stop()


@pytest.fixture
def tray(world: World) -> Iterator[Program]:
    with tray_program(world.home, world.desktop.environment) as program:
        yield program


def test_the_icon_appears_and_every_state_has_its_own(world: World, tray: Program) -> None:
    box = world.icon()
    assert box[3] - box[1] in range(12, PANEL_HEIGHT + 1)
    seen = [world.cut(box)]
    for state in STATES:
        if state == "working":
            continue  # it began with that
        before = world.desktop.picture()
        world.agentd.change(status_of(state))
        world.desktop.change(before, f"the icon of {state}")
        world.desktop.keep(f"tray-xfce-{state}")
        seen.append(world.desktop.picture()[:PANEL_HEIGHT, :PANEL_HEIGHT])
    assert len({picture.tobytes() for picture in seen}) == len(STATES)


def test_the_menu_pauses_and_resumes(world: World, tray: Program) -> None:
    icon = world.icon()
    without = world.desktop.picture()
    world.desktop.click(icon, 3)
    menu = world.desktop.change(without, "the menu")
    assert menu[3] > 5 * PANEL_HEIGHT
    world.desktop.keep("tray-xfce-menu")

    # The first two lines are there to be read; the first that can be chosen is "Pause".
    world.desktop.keys("Down", "Return")
    assert world.requests(1) == [("pause", {})]

    # In its place is now "Resume".
    until(lambda: world.agentd.status["activity"] == "paused", "the pause")
    world.desktop.pointer_away()
    paused = world.desktop.picture()
    world.desktop.click(icon, 3)
    world.desktop.change(paused, "the menu again")
    world.desktop.keep("tray-xfce-menu-paused")
    world.desktop.keys("Down", "Return")
    assert world.requests(2)[1:] == [("resume", {})]


def test_the_snooze_is_a_menu_of_its_own(world: World, tray: Program) -> None:
    icon = world.icon()
    without = world.desktop.picture()
    world.desktop.click(icon, 3)
    world.desktop.change(without, "the menu")
    menu = world.desktop.picture()
    world.desktop.keys("Down", "Down", "Right")
    world.desktop.change(menu, "the menu of times")
    world.desktop.keep("tray-xfce-snooze")
    world.desktop.keys("Down", "Return")
    assert world.requests(1) == [("pause", {"seconds": 3600})]


def test_clicks_on_the_icon(world: World, tray: Program) -> None:
    icon = world.icon()
    world.desktop.click(icon, 1)
    until(lambda: world.desktop.opened, "the browser")
    assert "/open?code=once" in world.desktop.opened[0]

    world.desktop.click(icon, 2)
    assert world.requests(2)[1] == ("pause", {})


def test_the_tooltip_says_why(world: World, tray: Program) -> None:
    icon = world.icon()
    without = world.desktop.picture()
    for x in (icon[0] + 3, icon[0] + 6, icon[0] + 9):
        world.desktop.server.xdotool("mousemove", f"{x}", "15")
    until(lambda: world.desktop.change(without, "it")[3] > PANEL_HEIGHT, "one below the panel")
    world.desktop.keep("tray-xfce-tooltip")


def test_a_restarted_panel_gets_the_icon_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with desktop(tmp_path) as place, place.xfce_panel() as panel:
        world = World(place, home)
        with tray_program(home, place.environment) as tray:
            before = world.icon()
            panel.kill()
            until(lambda: not place.has_panel(), "the panel's end")
            with place.xfce_panel():
                until(place.has_panel, "another panel")
                assert world.icon("the icon in another panel") == before
                place.keep("tray-xfce-panel-restarted")
                place.click(before, 2)
                assert world.requests(1) == [("pause", {})]
            assert tray.process.poll() is None
        world.agentd.stop()


def test_agentd_dies_and_comes_back(world: World, tray: Program) -> None:
    box = world.icon()
    working, picture = world.cut(box), world.desktop.picture()
    world.agentd.stop()
    world.desktop.change(picture, "the icon of an agent that is gone")
    world.desktop.keep("tray-xfce-agentd-gone")

    world.agentd = FakeAgentd(world.home, status_of())
    until(lambda: world.shows(box, working), "the icon of an agent that works")


def test_it_ends_with_the_agent(world: World, tray: Program) -> None:
    box = world.icon()
    world.agentd.change(status_of("stopped", running=False))

    assert tray.exit_code() == 0
    nothing = world.empty[box[1] : box[3], box[0] : box[2]]
    until(lambda: world.shows(box, nothing), "an empty panel")


def test_it_ends_with_the_session(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with desktop(tmp_path) as place, tray_program(home, place.environment) as tray:
        agentd = FakeAgentd(home)
        until(lambda: agentd.watchers, "the tray")
        place.bus.process.terminate()
        assert tray.exit_code() == 0
        agentd.stop()


def test_one_home_has_one_tray(world: World, tray: Program) -> None:
    world.icon()
    with tray_program(world.home, world.desktop.environment) as second:
        assert second.exit_code() == 0
    assert tray.process.poll() is None


def test_it_is_small_and_rests(world: World, tray: Program) -> None:
    icon = world.icon()
    without = world.desktop.picture()
    world.desktop.click(icon, 3)
    world.desktop.change(without, "the menu")
    world.desktop.keys("Escape")
    world.agentd.change(status_of("problem"))

    assert tray.rests(3)
    print(f"tray: {tray.resident_bytes} bytes resident, {tray.proportional_bytes} proportional")
    assert tray.resident_bytes <= MOST_RESIDENT_BYTES


def test_a_light_panel_gets_an_icon_that_can_be_seen(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with desktop(tmp_path, dark_mode=False) as place, place.xfce_panel():
        world = World(place, home)
        with tray_program(home, place.environment):
            left, top, right, bottom = world.icon()
            place.keep("tray-xfce-light")
            icon = place.picture()[top:bottom, left:right].astype(int)
            around = world.empty[top, left].astype(int)
            assert abs(icon - around).sum(axis=2).max() > 150
        world.agentd.stop()


def test_without_any_panel_it_waits_quietly(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    agentd = FakeAgentd(home)
    with desktop(tmp_path) as place, tray_program(home, place.environment) as tray:
        until(lambda: agentd.watchers, "the tray")
        assert tray.rests(5)
    agentd.stop()


def test_a_panel_that_starts_later_gets_the_icon(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    agentd = FakeAgentd(home)
    with desktop(tmp_path) as place, tray_program(home, place.environment):
        until(lambda: agentd.watchers, "the tray")
        with place.xfce_panel():
            place.pointer_away()
            until(place.has_panel, "the panel")
            place.change(np.zeros_like(place.picture()), "the icon")
            without_menu = place.still_picture()
            place.click((5, 5, 25, 25), 3)
            assert place.change(without_menu, "its menu")[3] > 100
    agentd.stop()


def test_without_any_desktop_it_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = clean_environment(HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
    with tray_program(home, environment) as tray:
        assert tray.exit_code() == 1
    assert "No message bus answers" in tray.errors.read_text("utf-8")
