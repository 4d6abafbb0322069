"""The user's graphical sessions as logind knows them. Source: org.freedesktop.login1(5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jeepney import DBusAddress

from pleb_agent.probe.bus import Bus, CallRefused
from pleb_agent.probe.surroundings import GraphicalSession

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SessionNews", "graphical_sessions"]

_LOGIND: Final = "org.freedesktop.login1"
_MANAGER: Final = DBusAddress(
    "/org/freedesktop/login1", bus_name=_LOGIND, interface=f"{_LOGIND}.Manager"
)
_GRAPHICAL: Final = ("x11", "wayland", "mir")


def graphical_sessions(bus: Bus, user_id: int) -> Sequence[GraphicalSession]:
    """Return this user's graphical sessions that have not ended.

    Raises:
        CannotRead: there is no logind on this bus, or it fails.
    """
    (listed,) = bus.call(_MANAGER, "ListSessions")
    paths = [path for _, owner, _, _, path in listed if owner == user_id]
    described = (_describe(bus, path) for path in paths)
    return [session for session in described if session is not None]


def _describe(bus: Bus, path: str) -> GraphicalSession | None:
    """Return a session; None for those without a screen, and those that just end."""
    address = DBusAddress(path, bus_name=_LOGIND, interface=f"{_LOGIND}.Session")
    try:
        kind, state = bus.get(address, "Type"), bus.get(address, "State")
        if kind not in _GRAPHICAL or state == "closing" or bus.get(address, "Class") != "user":
            return None
        return GraphicalSession(kind, bus.get(address, "Display"))
    except CallRefused:
        return None


class SessionNews:
    """Wakes us when sessions come and go, while there is none of ours.

    Raises:
        CannotRead: the bus fails.
    """

    locked = False
    fullscreen = False
    in_use = False

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        for member in ("SessionNew", "SessionRemoved"):
            bus.listen(interface=f"{_LOGIND}.Manager", member=member)

    def fileno(self) -> int:
        """Return the connection, readable when a session starts or ends."""
        return self._bus.fileno()

    def close(self) -> None:
        """Leave the bus."""
        self._bus.close()

    def take(self) -> None:
        """Take in the signals: they only wake us."""
        self._bus.signals()
