"""Which method of watching is used: the first of a table that works here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from pleb_agent.dbus.stream import ServiceError, ServiceMissing
from pleb_agent.probe.lines import NO_SESSION_LINE, Line, unreadable
from pleb_agent.probe.session import DesktopSession

if TYPE_CHECKING:
    from pleb_agent.probe.backend import Backend

__all__ = ["METHODS", "Method", "choose", "find_session"]

Clock = Callable[[], float]


class Method(NamedTuple):
    """`open` raises `ServiceMissing` where there is nothing to watch by this method."""

    name: str
    open: Callable[[DesktopSession, Clock], Backend]


def open_mutter(session: DesktopSession, _: Clock) -> Backend:
    """Watch GNOME through its bus."""
    if not session.session_bus:
        raise ServiceMissing("There is no session with a message bus.")
    from pleb_agent.dbus.bus import open_bus
    from pleb_agent.probe.bus_sources import MutterBackend

    bus = open_bus(session.session_bus)
    try:
        return MutterBackend(bus)
    except ServiceError:
        bus.close()
        raise


def open_wayland(session: DesktopSession, clock: Clock) -> Backend:
    """Watch a Wayland compositor."""
    if not session.compositor:
        raise ServiceMissing("There is no Wayland session.")
    from pleb_agent.probe.wayland import WaylandBackend
    from pleb_agent.probe.wayland_wire import WaylandConnection

    connection = WaylandConnection(session.compositor)
    try:
        return WaylandBackend(connection, clock)
    except ServiceError:
        connection.close()
        raise


def open_x11(session: DesktopSession, _: Clock) -> Backend:
    """Watch an X server, but not one that runs inside of a Wayland compositor."""
    if not session.display:
        raise ServiceMissing("There is no X11 session.")
    if session.compositor:
        raise ServiceMissing("In a Wayland session X11 sees only part of the input.")
    from pleb_agent.probe.x11 import X11Backend, refuse_xwayland
    from pleb_agent.probe.x11_place import find_cookie, parse_display
    from pleb_agent.probe.x11_wire import X11Connection

    place = parse_display(session.display)
    connection = X11Connection(place, find_cookie(session.authority, place))
    try:
        refuse_xwayland(connection)
        return X11Backend(connection)
    except ServiceError:
        connection.close()
        raise


def open_windows(session: DesktopSession, _: Clock) -> Backend:
    """Watch a Windows session."""
    if session.platform != "win32":
        raise ServiceMissing("This is not Windows.")
    from pleb_agent.probe.windows import User32, WindowsBackend

    return WindowsBackend(User32())


def open_mac(session: DesktopSession, _: Clock) -> Backend:
    """Watch a macOS session."""
    if session.platform != "darwin":
        raise ServiceMissing("This is not macOS.")
    from pleb_agent.probe.macos import MacBackend, Quartz

    return MacBackend(Quartz())


METHODS: Final = (
    Method("Windows", open_windows),
    Method("macOS", open_mac),
    Method("X11", open_x11),  # reports full screens too; never inside of Wayland
    Method("GNOME", open_mutter),  # its compositor has neither of Wayland's idle protocols
    Method("Wayland", open_wayland),  # KDE, sway and others report idle times to every program
)


def find_session(environment: Mapping[str, str], platform: str = sys.platform) -> DesktopSession:
    """Return what can be seen of a session from here."""
    session = DesktopSession(platform)
    if not session.has_buses:
        return session
    from pleb_agent.probe.linux import find_linux_session  # jeepney is installed on Linux only

    return find_linux_session(environment, platform)


def choose(
    session: DesktopSession, clock: Clock, methods: tuple[Method, ...] = METHODS
) -> Backend | Line:
    """Open the first method that works; else return the line that says why there is none.

    A session that cannot be read is reported as such: it counts as in use.
    """
    refusal: Line | None = None
    for method in methods:
        try:
            return method.open(session, clock)
        except ServiceMissing:
            continue
        except ServiceError as error:
            refusal = refusal or unreadable(str(error), method.name)
    if refusal is not None:
        return refusal
    if not session.exists or session.of_logind == ():
        return NO_SESSION_LINE
    where = session.display or session.compositor or "the session that logind knows"
    return unreadable(f"The session at {where} does not answer; is it still starting?")
