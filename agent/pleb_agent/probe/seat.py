"""Our session as logind sees it: whether it is locked, and whether another user sits in front.

After a fast change of users our session lives on behind theirs, and nobody touches it. Source:
org.freedesktop.login1(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jeepney import DBusAddress

from pleb_agent.probe.bus import CallRefused

if TYPE_CHECKING:
    from pleb_agent.probe.bus import Bus

__all__ = ["LogindSeat"]

_LOGIND: Final = "org.freedesktop.login1"
_SESSIONS: Final = "/org/freedesktop/login1/session"
_OURS: Final = f"{_SESSIONS}/auto"
_NOWHERE: Final = "/"
"""The path of no seat and no session."""


class LogindSeat:
    """Our session and its seat, on the system's bus; all False where we have no session.

    Raises:
        CannotRead: the bus fails.
    """

    fullscreen = False

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        bus.listen(
            sender=_LOGIND,
            interface="org.freedesktop.DBus.Properties",
            member="PropertiesChanged",
            path_namespace=_SESSIONS,
        )
        self.locked = self.in_use = False
        self._ask()

    def fileno(self) -> int:
        """Return the connection, readable when a session changes."""
        return self._bus.fileno()

    def close(self) -> None:
        """Leave the bus."""
        self._bus.close()

    def take(self) -> None:
        """Ask again when any session has changed."""
        while self._bus.signals():
            self._ask()

    def _ask(self) -> None:
        try:
            self.locked = bool(self._session(_OURS, "LockedHint"))
            self.in_use = not self._session(_OURS, "Active") and self._another_is_in_front()
        except CallRefused:
            self.locked = self.in_use = False

    def _another_is_in_front(self) -> bool:
        """Whether the seat is another user's now, and their desktop does not say they are idle.

        A greeter in front is nobody: it only waits for somebody.
        """
        _, seat = self._session(_OURS, "Seat")
        if seat == _NOWHERE:
            return False
        _, front = self._bus.get(DBusAddress(seat, _LOGIND, f"{_LOGIND}.Seat"), "ActiveSession")
        if front == _NOWHERE or self._session(front, "Class") != "user":
            return False
        users = self._session(front, "User")[0], self._session(_OURS, "User")[0]
        return users[0] != users[1] and not self._session(front, "IdleHint")

    def _session(self, path: str, name: str) -> Any:
        return self._bus.get(DBusAddress(path, _LOGIND, f"{_LOGIND}.Session"), name)
