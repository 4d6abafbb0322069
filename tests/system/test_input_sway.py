"""The user's input in sway: a real Wayland compositor of the wlroots family."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.readings import PresenceKind
from tests.system.desktop import (
    Compositor,
    clean_environment,
    run,
    started,
    sway,
    until,
    xwayland,
)
from tests.system.watched import watched

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system


@pytest.fixture
def compositor() -> Iterator[Compositor]:
    with sway() as running:
        yield running


@pytest.mark.parametrize("touch", [["swaymsg", "seat - cursor move 5 5"], ["wtype", "a"]])
def test_every_first_input_is_reported_at_once_and_the_idle_time_is_right(
    compositor: Compositor, touch: list[str]
) -> None:
    environment = clean_environment(**compositor.environment)
    with watched(environment) as seen:
        seen.until_kind(PresenceKind.READABLE)
        time.sleep(1)
        run(touch, environment)
        last = time.time()
        seen.until_quiet()
        assert abs(seen.presence.last_input_at - last) < 0.6
        before = time.time()
        run(touch, environment)
        after = time.time()
        assert seen.until_input_since(before) < after + 0.5
        assert seen.presence.method == "Wayland"


def test_a_window_that_fills_the_screen_is_seen_while_it_is_in_front(
    compositor: Compositor,
) -> None:
    environment = clean_environment(**compositor.environment)
    dialog = ["zenity", "--info", "--text=a film"]
    with watched(environment) as seen, started(dialog, environment | {"GDK_BACKEND": "wayland"}):
        seen.until_kind(PresenceKind.READABLE)
        until(lambda: '"app_id": "zenity"' in tree(environment), "the window")
        run(["swaymsg", "[app_id=zenity] focus, fullscreen enable"], environment)
        until(lambda: seen.presence.fullscreen, "the full screen")
        run(["swaymsg", "[app_id=zenity] fullscreen disable"], environment)
        until(lambda: not seen.presence.fullscreen, "the full screen's end")
        run(["swaymsg", "[app_id=zenity] fullscreen enable"], environment)
        until(lambda: seen.presence.fullscreen, "the full screen once more")
        run(["swaymsg", "[app_id=zenity] kill"], environment)
        until(lambda: not seen.presence.fullscreen, "the window's end")


def tree(environment: dict[str, str]) -> str:
    return run(["swaymsg", "-t", "get_tree"], environment)


def test_xwayland_is_not_trusted(compositor: Compositor) -> None:
    with (
        xwayland(compositor) as server,
        watched(clean_environment(DISPLAY=server.display)) as seen,
    ):
        until(lambda: seen.news, "the refusal")
        assert seen.presence.kind is PresenceKind.UNREADABLE
        assert "belongs to a Wayland" in seen.presence.problem


def test_a_compositor_that_ends_is_unreadable() -> None:
    with sway() as compositor, watched(clean_environment(**compositor.environment)) as seen:
        seen.until_kind(PresenceKind.READABLE)
        compositor.process.kill()
        assert "compositor" in seen.until_kind(PresenceKind.UNREADABLE).problem
