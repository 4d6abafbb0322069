"""Sources on D-Bus: locks, other users, programs that keep the screen on, and GNOME's input.

Each has a connection of its own, readable when something changes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jeepney import DBusAddress, HeaderFields

from pleb_agent.dbus.bus import CallRefused
from pleb_agent.dbus.stream import ServiceMissing
from pleb_agent.probe.session import LogindSession

if TYPE_CHECKING:
    from pleb_agent.dbus.bus import Bus

__all__ = [
    "LogindSeat",
    "MutterBackend",
    "ScreenInhibit",
    "ScreenSaverLock",
    "SessionChanges",
    "graphical_sessions",
]


class _BusSource:
    """A source that knows nothing yet."""

    locked = False
    fullscreen = False
    in_use = False

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def fileno(self) -> int:
        """Return the connection, readable when signals arrive."""
        return self._bus.fileno()

    def close(self) -> None:
        """Leave the bus."""
        self._bus.close()

    def take(self) -> None:
        """Drop the signals: they only wake the probe."""
        self._bus.signals()


# -- GNOME's input ------------------------------------------------------------------------

_MUTTER: Final = "org.gnome.Mutter.IdleMonitor"
_MONITOR: Final = DBusAddress("/org/gnome/Mutter/IdleMonitor/Core", _MUTTER, _MUTTER)


class MutterBackend(_BusSource):
    """GNOME: its compositor keeps an idle monitor on the session's bus.

    `AddUserActiveWatch` signals the next input, once. GetIdletime counts real input; programs that
    keep the screen on do not change it. GNOME reports no full screen. Source:
    `org.gnome.Mutter.IdleMonitor.xml` and `meta-idle-monitor.c` of Mutter 43.

    Raises:
        ServiceMissing: there is no Mutter on this bus.
        ServiceError: it refuses.
    """

    method: Final = "GNOME"

    def __init__(self, bus: Bus) -> None:
        if not bus.has_owner(_MUTTER):
            raise ServiceMissing("GNOME's compositor is not on the session's message bus.")
        super().__init__(bus)
        bus.listen(sender=_MUTTER, interface=_MUTTER, member="WatchFired")
        bus.listen_for_owner(_MUTTER)

    def arm(self) -> None:
        """Ask for a signal at the next input."""
        self._bus.call(_MONITOR, "AddUserActiveWatch")

    def idle_seconds(self) -> float:
        """Ask the monitor; again when a watch has fired along with the answer."""
        milliseconds = self._idle_time()
        while self._bus.signals():
            milliseconds = self._idle_time()
        return milliseconds / 1000

    def _idle_time(self) -> int:
        return int(self._bus.call(_MONITOR, "GetIdletime")[0])


# -- programs that keep the screen on ------------------------------------------------------


class _Inhibitors(NamedTuple):
    """A service that knows of them, how it is asked, and what it signals."""

    address: DBusAddress
    method: str
    flag: int
    signals: tuple[str, ...]


_GNOME: Final = _Inhibitors(
    DBusAddress(
        "/org/gnome/SessionManager", "org.gnome.SessionManager", "org.gnome.SessionManager"
    ),
    "IsInhibited",
    8,
    ("InhibitorAdded", "InhibitorRemoved"),
)
_KDE: Final = _Inhibitors(
    DBusAddress(
        "/org/kde/Solid/PowerManagement/PolicyAgent",
        "org.kde.Solid.PowerManagement.PolicyAgent",
        "org.kde.Solid.PowerManagement.PolicyAgent",
    ),
    "HasInhibition",
    4,
    ("InhibitionsChanged",),
)


class ScreenInhibit(_BusSource):
    """Whether a program keeps the screen on, as films and presentations do.

    It counts as a full screen where the desktop does not report which window fills it: GNOME,
    and KDE on Wayland. Sources: `org.gnome.SessionManager.xml` (flag 8: "inhibit the session being
    marked as idle"), `org.kde.Solid.PowerManagement.PolicyAgent.xml` (4: "ChangeScreenSettings").

    Raises:
        ServiceMissing: neither service is on the session's bus.
        ServiceError: the bus fails.
    """

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        found = [each for each in (_GNOME, _KDE) if bus.has_owner(each.address.bus_name)]
        if not found:
            raise ServiceMissing("No service on the session's bus knows what keeps the screen on.")
        self._inhibitors = found[0]
        for member in self._inhibitors.signals:
            bus.listen(interface=self._inhibitors.address.interface, member=member)
        self.fullscreen = self._is_inhibited()

    def take(self) -> None:
        """Ask again after a signal."""
        while self._bus.signals():
            self.fullscreen = self._is_inhibited()

    def _is_inhibited(self) -> bool:
        address, method, flag, _ = self._inhibitors
        try:
            return bool(self._bus.call(address, method, "u", (flag,))[0])
        except CallRefused:
            return False


# -- locks --------------------------------------------------------------------------------

SAVERS: Final = {
    "org.cinnamon.ScreenSaver": "/org/cinnamon/ScreenSaver",
    "org.freedesktop.ScreenSaver": "/org/freedesktop/ScreenSaver",
    "org.gnome.ScreenSaver": "/org/gnome/ScreenSaver",
    "org.mate.ScreenSaver": "/org/mate/ScreenSaver",
    "org.xfce.ScreenSaver": "/org/xfce/ScreenSaver",
}
"""Where each desktop's saver is. Some keep it at /ScreenSaver or at / too: the signal's interface
says whose it is. All have GetActive and ActiveChanged."""


class ScreenSaverLock(_BusSource):
    """Whether the screen is locked, as the screen savers on the session's bus say.

    Raises:
        ServiceError: the bus fails.
    """

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        for name in SAVERS:
            bus.listen(interface=name, member="ActiveChanged")
            bus.listen_for_owner(name)
        self._active: set[str] = set()
        for name, path in SAVERS.items():
            with suppress(CallRefused):
                if bus.call(DBusAddress(path, name, name), "GetActive")[0]:
                    self._active.add(name)
        self.locked = bool(self._active)

    def take(self) -> None:
        """Take in which savers have started, ended or died."""
        for signal in self._bus.signals():
            interface = signal.header.fields.get(HeaderFields.interface, "")
            if interface in SAVERS and signal.body:
                (self._active.add if signal.body[0] else self._active.discard)(interface)
            elif len(signal.body) == 3 and signal.body[0] in SAVERS:  # name, old owner, new owner
                self._active.discard(signal.body[0])
        self.locked = bool(self._active)


# -- logind. Source: org.freedesktop.login1(5) ----------------------------------------------

_LOGIND: Final = "org.freedesktop.login1"
_MANAGER: Final = DBusAddress("/org/freedesktop/login1", _LOGIND, f"{_LOGIND}.Manager")
_SESSIONS: Final = "/org/freedesktop/login1/session"
_OURS: Final = f"{_SESSIONS}/auto"
_NO_PATH: Final = "/"
"""The path of no seat and no session."""
_GRAPHICAL: Final = ("x11", "wayland", "mir")


class LogindSeat(_BusSource):
    """Our session on the system's bus: is it locked, and is another user in front of its seat?

    After a fast change of users our session keeps running behind theirs, without input. Both
    are False where we have no session.

    Raises:
        ServiceError: the bus fails.
    """

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        bus.listen(
            sender=_LOGIND,
            interface="org.freedesktop.DBus.Properties",
            member="PropertiesChanged",
            path_namespace=_SESSIONS,
        )
        self._ask()

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
        """Return whether the seat is another user's now, and their desktop does not say idle.

        A greeter in front is no user: it only waits for a log-in.
        """
        _, seat = self._session(_OURS, "Seat")
        if seat == _NO_PATH:
            return False
        _, front = self._bus.get(DBusAddress(seat, _LOGIND, f"{_LOGIND}.Seat"), "ActiveSession")
        if front == _NO_PATH or self._session(front, "Class") != "user":
            return False
        users = self._session(front, "User")[0], self._session(_OURS, "User")[0]
        return users[0] != users[1] and not self._session(front, "IdleHint")

    def _session(self, path: str, name: str) -> Any:
        return self._bus.get(DBusAddress(path, _LOGIND, f"{_LOGIND}.Session"), name)


class SessionChanges(_BusSource):
    """Wakes the probe when sessions come and go, while there is none of ours.

    Raises:
        ServiceError: the bus fails.
    """

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        for member in ("SessionNew", "SessionRemoved"):
            bus.listen(interface=f"{_LOGIND}.Manager", member=member)


def graphical_sessions(bus: Bus, user_id: int) -> tuple[LogindSession, ...]:
    """Return this user's graphical sessions that have not ended.

    Raises:
        ServiceError: there is no logind on this bus, or it fails.
    """
    (listed,) = bus.call(_MANAGER, "ListSessions")
    found = []
    for _, owner, _, _, path in listed:
        if owner != user_id:
            continue
        address = DBusAddress(path, _LOGIND, f"{_LOGIND}.Session")
        try:
            kind, state = bus.get(address, "Type"), bus.get(address, "State")
            if kind in _GRAPHICAL and state != "closing" and bus.get(address, "Class") == "user":
                found.append(LogindSession(kind, bus.get(address, "Display")))
        except CallRefused:
            continue  # it has just ended
    return tuple(found)
