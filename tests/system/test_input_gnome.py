"""The user's input in GNOME: a real Mutter without a screen, moved by its remote desktop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from jeepney import DBusAddress

from pleb_agent.core.readings import PresenceKind
from pleb_agent.dbus.bus import open_bus
from tests.system.desktop import (
    Bus,
    Compositor,
    clean_environment,
    mutter,
    session_bus,
    until,
)
from tests.system.services import service
from tests.system.watched import Watched, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_agent.dbus.bus import Bus as Client

pytestmark = pytest.mark.system

REMOTE = "org.gnome.Mutter.RemoteDesktop"
MANAGER = "org.gnome.SessionManager"
MANAGER_PATH = "/org/gnome/SessionManager"
SAVER = "org.gnome.ScreenSaver"
SAVER_PATH = "/org/gnome/ScreenSaver"


class Mouse:
    """A mouse that Mutter believes in, over a connection to its bus."""

    def __init__(self, client: Client) -> None:
        self._client = client
        remote = DBusAddress("/org/gnome/Mutter/RemoteDesktop", bus_name=REMOTE, interface=REMOTE)
        (path,) = self._client.call(remote, "CreateSession")
        self._session = DBusAddress(path, bus_name=REMOTE, interface=f"{REMOTE}.Session")
        self._client.call(self._session, "Start")

    def move(self) -> None:
        self._client.call(self._session, "NotifyPointerMotionRelative", "dd", (5.0, 5.0))


@pytest.fixture
def bus() -> Iterator[Bus]:
    with session_bus() as running:
        yield running


@pytest.fixture
def gnome(bus: Bus) -> Iterator[Compositor]:
    with mutter(bus) as running:
        yield running


@pytest.fixture
def mouse(bus: Bus, gnome: Compositor) -> Iterator[Mouse]:
    with open_bus(bus.address) as client:
        yield Mouse(client)


@pytest.fixture
def seen(gnome: Compositor) -> Iterator[Watched]:
    # Mutter runs as a Wayland compositor, and yet GNOME's own way must be the one that is taken.
    with watched(clean_environment(**gnome.environment)) as running:
        yield running


def test_every_first_input_is_reported_at_once_and_the_idle_time_is_right(
    seen: Watched, mouse: Mouse
) -> None:
    for _ in range(2):  # a watch of Mutter's fires once: it must be set again
        mouse.move()
        last = time.time()
        seen.until_quiet()
        assert abs(seen.presence.last_input_at - last) < 0.5
        before = time.time()
        mouse.move()
        after = time.time()
        assert seen.until_input_since(before) < after + 0.5
    assert seen.presence.method == "GNOME"


def test_a_program_that_keeps_the_screen_on_counts_as_full_screen(
    bus: Bus, gnome: Compositor
) -> None:
    with service(bus.address, MANAGER) as manager:
        manager.answers[MANAGER_PATH, "IsInhibited"] = "b", (False,)
        with watched(clean_environment(**gnome.environment)) as seen:
            seen.until_kind(PresenceKind.READABLE)
            manager.answers[MANAGER_PATH, "IsInhibited"] = "b", (True,)
            manager.emit(MANAGER_PATH, MANAGER, "InhibitorAdded", "o", "/film")
            until(lambda: seen.presence.fullscreen, "the film")
            manager.answers[MANAGER_PATH, "IsInhibited"] = "b", (False,)
            manager.emit(MANAGER_PATH, MANAGER, "InhibitorRemoved", "o", "/film")
            until(lambda: not seen.presence.fullscreen, "the film's end")


def test_the_lock_is_that_of_the_screen_saver_while_it_lives(bus: Bus, gnome: Compositor) -> None:
    with watched(clean_environment(**gnome.environment)) as seen:
        seen.until_kind(PresenceKind.READABLE)
        with service(bus.address, SAVER) as saver:
            saver.emit(SAVER_PATH, SAVER, "ActiveChanged", "b", True)
            until(lambda: seen.presence.locked, "the lock")
            saver.emit(SAVER_PATH, SAVER, "ActiveChanged", "b", False)
            until(lambda: not seen.presence.locked, "the lock's end")
            saver.emit(SAVER_PATH, SAVER, "ActiveChanged", "b", True)
            until(lambda: seen.presence.locked, "the second lock")
        until(lambda: not seen.presence.locked, "the end of the saver")


def test_a_screen_that_is_locked_already_is_seen_at_the_start(bus: Bus, gnome: Compositor) -> None:
    with service(bus.address, SAVER) as saver:
        saver.answers[SAVER_PATH, "GetActive"] = "b", (True,)
        with watched(clean_environment(**gnome.environment)) as seen:
            until(lambda: seen.presence.locked, "the lock")


def test_a_compositor_that_ends_is_unreadable(bus: Bus) -> None:
    with mutter(bus) as gnome:
        running = watched(clean_environment(**gnome.environment))
        with running as seen:
            seen.until_kind(PresenceKind.READABLE)
            gnome.process.kill()
            assert seen.until_kind(PresenceKind.UNREADABLE).problem
