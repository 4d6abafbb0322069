"""What logind says: locks, and sessions that no variable of ours names."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from pleb_agent.core.readings import PresenceKind
from tests.system.desktop import clean_environment, session_bus, until, x_server
from tests.system.services import Service, service
from tests.system.watched import watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.desktop import XServer

pytestmark = pytest.mark.system

LOGIND = "org.freedesktop.login1"
MANAGER = "/org/freedesktop/login1"
OURS = f"{MANAGER}/session/_31"
AUTO = f"{MANAGER}/session/auto"
THEIRS = f"{MANAGER}/session/_32"
SEAT = f"{MANAGER}/seat/seat0"


@pytest.fixture
def system_bus() -> Iterator[str]:
    with session_bus() as bus:
        yield bus.address


@contextmanager
def logind(
    address: str, *, sessions: bool, display: str = "", kind: str = "x11"
) -> Iterator[Service]:
    """Play logind with one session of ours, or none but a stranger's."""
    stranger = ("2", os.getuid() + 1, "stranger", "seat0", THEIRS)
    ours = ("1", os.getuid(), "we", "seat0", OURS)
    with service(address, LOGIND) as played:
        listed = [stranger, ours] if sessions else [stranger]
        played.answers[MANAGER, "ListSessions"] = "a(susso)", (listed,)
        described = {"Type": kind, "State": "active", "Class": "user", "Display": display}
        for name, value in described.items():
            played.properties[OURS, name] = "s", value
        played.properties[AUTO, "LockedHint"] = "b", False
        played.properties[AUTO, "Active"] = "b", True
        yield played


@pytest.fixture
def server() -> Iterator[XServer]:
    with x_server() as running:
        yield running


def test_the_session_s_lock_is_reported(system_bus: str, server: XServer) -> None:
    environment = clean_environment(**server.environment, DBUS_SYSTEM_BUS_ADDRESS=system_bus)
    with logind(system_bus, sessions=True) as played, watched(environment) as seen:
        seen.until_kind(PresenceKind.READABLE)
        for locked in (True, False):
            played.properties[AUTO, "LockedHint"] = "b", locked
            played.emit_changed(AUTO, f"{LOGIND}.Session", "LockedHint")
            until(lambda: seen.presence.locked is locked, f"locked: {locked}")  # noqa: B023


def test_another_user_in_front_counts_as_input(system_bus: str, server: XServer) -> None:
    environment = clean_environment(**server.environment, DBUS_SYSTEM_BUS_ADDRESS=system_bus)
    with logind(system_bus, sessions=True) as played:
        of_ours = {"Seat": ("(so)", ("seat0", SEAT)), "User": ("(uo)", (os.getuid(), "/us"))}
        of_theirs = {
            "Class": ("s", "user"),
            "User": ("(uo)", (os.getuid() + 1, "/them")),
            "IdleHint": ("b", True),
        }
        played.properties |= {(AUTO, name): value for name, value in of_ours.items()}
        played.properties |= {(THEIRS, name): value for name, value in of_theirs.items()}
        played.properties[SEAT, "ActiveSession"] = "(so)", ("2", THEIRS)
        played.properties[AUTO, "Active"] = "b", False
        with watched(environment) as seen:
            seen.until_quiet()
            played.properties[THEIRS, "IdleHint"] = "b", False
            before = time.time()
            played.emit_changed(THEIRS, f"{LOGIND}.Session", "IdleHint")
            seen.until_input_since(before)


def test_a_session_that_only_logind_knows_is_read(
    system_bus: str, server: XServer, tmp_path: Path
) -> None:
    environment = clean_environment(
        DBUS_SYSTEM_BUS_ADDRESS=system_bus, XDG_RUNTIME_DIR=str(tmp_path)
    )
    with logind(system_bus, sessions=True, display=server.display), watched(environment) as seen:
        assert seen.until_kind(PresenceKind.READABLE).method == "X11"


def test_a_session_of_which_nothing_can_be_read_counts_as_one(
    system_bus: str, tmp_path: Path
) -> None:
    environment = clean_environment(
        DBUS_SYSTEM_BUS_ADDRESS=system_bus, XDG_RUNTIME_DIR=str(tmp_path)
    )
    with logind(system_bus, sessions=True, kind="wayland"), watched(environment) as seen:
        until(lambda: seen.news, "the probe's first line")
        assert seen.presence.kind is PresenceKind.UNREADABLE


def test_a_session_that_comes_later_is_found(system_bus: str, tmp_path: Path) -> None:
    environment = clean_environment(
        DBUS_SYSTEM_BUS_ADDRESS=system_bus, XDG_RUNTIME_DIR=str(tmp_path)
    )
    with ExitStack() as stack:
        played = stack.enter_context(logind(system_bus, sessions=False))
        seen = stack.enter_context(watched(environment))
        seen.until_kind(PresenceKind.NO_SESSION)
        server = stack.enter_context(x_server())
        played.properties[OURS, "Display"] = "s", server.display
        (strangers,) = played.answers[MANAGER, "ListSessions"][1]
        listed = [*strangers, ("1", os.getuid(), "we", "seat0", OURS)]
        played.answers[MANAGER, "ListSessions"] = "a(susso)", (listed,)
        played.emit(MANAGER, f"{LOGIND}.Manager", "SessionNew", "so", "1", OURS)
        assert seen.until_kind(PresenceKind.READABLE).method == "X11"


def test_after_the_user_has_logged_out_there_is_no_session(system_bus: str, tmp_path: Path) -> None:
    environment = clean_environment(
        DBUS_SYSTEM_BUS_ADDRESS=system_bus, XDG_RUNTIME_DIR=str(tmp_path), DISPLAY=":98"
    )
    with logind(system_bus, sessions=False), watched(environment) as seen:
        seen.until_kind(PresenceKind.NO_SESSION)
