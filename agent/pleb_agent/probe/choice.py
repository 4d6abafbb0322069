"""Which way of watching is used: the first of a table that works here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from pleb_agent.probe.backend import CannotRead, NotHere
from pleb_agent.probe.lines import NOBODY_LINE, Line, unreadable
from pleb_agent.probe.surroundings import Surroundings

if TYPE_CHECKING:
    from pleb_agent.probe.backend import Backend

__all__ = ["WAYS", "Choice", "Way", "choose", "look_around"]

Clock = Callable[[], float]


class Way(NamedTuple):
    """`open` raises `NotHere` where there is nothing to watch in this way."""

    method: str
    reason: str
    """Why it stands where it stands, for the doctor."""
    open: Callable[[Surroundings, Clock], Backend]


class Choice(NamedTuple):
    """The chosen backend, or the line that says why there is none."""

    result: Backend | Line
    tried: tuple[tuple[Way, str], ...]
    """Every way that was tried in order, with "works" or the sentence of its failure."""


def open_mutter(around: Surroundings, _: Clock) -> Backend:
    """Watch GNOME through its bus."""
    if not around.session_bus:
        raise NotHere("There is no session with a message bus.")
    from pleb_agent.probe.bus import Bus
    from pleb_agent.probe.mutter import MutterBackend

    bus = Bus(around.session_bus)
    try:
        return MutterBackend(bus)
    except CannotRead:
        bus.close()
        raise


def open_wayland(around: Surroundings, clock: Clock) -> Backend:
    """Watch a Wayland compositor."""
    if not around.compositor:
        raise NotHere("There is no Wayland session.")
    from pleb_agent.probe.wayland import WaylandBackend
    from pleb_agent.probe.wayland_wire import WaylandConnection

    connection = WaylandConnection(around.compositor)
    try:
        return WaylandBackend(connection, clock)
    except CannotRead:
        connection.close()
        raise


def open_x11(around: Surroundings, _: Clock) -> Backend:
    """Watch an X server, but none that only stands in for Wayland."""
    if not around.display:
        raise NotHere("There is no X11 session.")
    if around.compositor:
        raise NotHere("In a Wayland session X11 sees only part of the input.")
    from pleb_agent.probe.x11 import X11Backend, refuse_xwayland
    from pleb_agent.probe.x11_place import find_cookie, parse_display
    from pleb_agent.probe.x11_wire import X11Connection

    place = parse_display(around.display)
    connection = X11Connection(place, find_cookie(around.authority, place))
    try:
        refuse_xwayland(connection)
        return X11Backend(connection)
    except CannotRead:
        connection.close()
        raise


def open_windows(around: Surroundings, _: Clock) -> Backend:
    """Watch a Windows session."""
    if around.platform != "win32":
        raise NotHere("This is not Windows.")
    from pleb_agent.probe.windows import User32, WindowsBackend

    return WindowsBackend(User32())


def open_mac(around: Surroundings, _: Clock) -> Backend:
    """Watch a macOS session."""
    if around.platform != "darwin":
        raise NotHere("This is not macOS.")
    from pleb_agent.probe.macos import MacBackend, Quartz

    return MacBackend(Quartz())


WAYS: Final = (
    Way("Windows", "Windows has one way only.", open_windows),
    Way("macOS", "macOS has one way only.", open_mac),
    Way("X11", "It tells of full screens too; never inside of Wayland.", open_x11),
    Way("GNOME", "Its compositor speaks neither of Wayland's idle protocols.", open_mutter),
    Way("Wayland", "KDE, sway and others tell every program of idle times.", open_wayland),
)


def look_around(environment: Mapping[str, str], platform: str = sys.platform) -> Surroundings:
    """Return what can be seen of a session from here."""
    around = Surroundings(platform)
    if not around.has_buses:
        return around
    from pleb_agent.probe.linux import look_around_linux  # jeepney is installed on Linux only

    return look_around_linux(environment, platform)


def choose(around: Surroundings, clock: Clock, ways: tuple[Way, ...] = WAYS) -> Choice:
    """Open the first way that works, or say that nobody is here or why nobody can be seen."""
    tried: list[tuple[Way, str]] = []
    failures: list[tuple[str, CannotRead]] = []
    for way in ways:
        try:
            backend = way.open(around, clock)
        except CannotRead as error:
            tried.append((way, str(error)))
            failures.append((way.method, error))
        else:
            return Choice(backend, (*tried, (way, "works")))
    return Choice(_without_backend(around, failures), tuple(tried))


def _without_backend(around: Surroundings, failures: list[tuple[str, CannotRead]]) -> Line:
    """Nothing works. Signs of a session that cannot be read count as somebody being there."""
    refusals = [(method, error) for method, error in failures if not isinstance(error, NotHere)]
    if refusals:
        method, error = refusals[0]
        return unreadable(str(error), method)
    if not around.has_session or around.sessions == ():
        return NOBODY_LINE
    where = around.display or around.compositor or "the session that logind knows"
    return unreadable(f"The session at {where} does not answer; is it still starting?")
