"""The tray where no panel knows items of the bus: an old tray, a later one, none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fake_agentd import FakeAgentd, status_of
from tests.system.desktop import clean_environment, until
from tests.system.tray_desktop import desktop, tray_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from tests.system.tray_desktop import Box, Desktop

pytestmark = pytest.mark.system

MOST_RESIDENT_BYTES = 15 * 10**6


def icon_in(place: Desktop, nothing: np.ndarray) -> Box:
    """Return where the tray is, once there is an icon in it: it is as wide as what it holds."""

    def look() -> Box | None:
        left, top, right, bottom = place.change(nothing, "the old tray")
        return (left, top, right, bottom) if right - left > 12 else None

    found = until(look, "the icon")
    assert found is not None
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def agentd(home: Path) -> Iterator[FakeAgentd]:
    agentd = FakeAgentd(home)
    try:
        yield agentd
    finally:
        agentd.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desktop]:
    with desktop(tmp_path) as place:
        yield place


def test_it_docks_and_listens(place: Desktop, home: Path, agentd: FakeAgentd) -> None:
    place.pointer_away()
    nothing = place.picture()
    with place.trayer(), tray_program(home, place.environment) as tray:
        icon = icon_in(place, nothing)
        place.keep("tray-trayer-working")

        working = place.picture()
        agentd.change(status_of("problem"))
        place.change(working, "the icon of a problem")
        place.keep("tray-trayer-problem")

        place.click(icon, 1)
        until(lambda: place.opened, "the browser")
        place.click(icon, 2)
        until(lambda: agentd.wishes[1:], "the pause")
        assert agentd.wishes == [("page", {}), ("pause", {})]

        place.pointer_away()
        assert tray.rests(3)
        print(f"old tray: {tray.resident_bytes} bytes, {tray.proportional_bytes} proportional")
        assert tray.resident_bytes <= MOST_RESIDENT_BYTES


def test_a_restarted_tray_gets_the_icon_again(
    place: Desktop, home: Path, agentd: FakeAgentd
) -> None:
    place.pointer_away()
    nothing = place.picture()
    with tray_program(home, place.environment) as tray:
        for _ in range(2):
            with place.trayer():
                icon_in(place, nothing)
            until(lambda: not place.has_panel(), "the tray's end")
        assert tray.process.poll() is None


def test_a_panel_of_today_takes_over(place: Desktop, home: Path, agentd: FakeAgentd) -> None:
    """The old icon goes when a panel comes that can show the menu too; it comes back after it."""
    place.pointer_away()
    nothing = place.picture()
    with tray_program(home, place.environment):
        with place.trayer():
            icon_in(place, nothing)
            docked = place.still_picture()
            with place.xfce_panel():
                place.change(docked, "the panel")
                panel = place.still_picture()
                place.click((5, 5, 25, 25), 3)
                assert place.change(panel, "its menu")[3] > 100
                place.keys("Escape")
        until(lambda: not place.has_panel(), "the end of both")
        with place.trayer():
            icon_in(place, nothing)


def test_without_any_tray_it_waits_quietly(place: Desktop, home: Path, agentd: FakeAgentd) -> None:
    with tray_program(home, place.environment) as tray:
        until(lambda: agentd.watchers, "the tray")
        assert tray.rests(5)


def test_without_any_desktop_it_says_so(home: Path, tmp_path: Path) -> None:
    environment = clean_environment(HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
    with tray_program(home, environment) as tray:
        assert tray.exit_code() == 1
    assert tray.errors.read_text("utf-8").strip() == (
        "pleb-agent tray: There is no X display here, so no tray for an icon."
    )
