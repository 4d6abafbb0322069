"""Whether a program keeps the screen on, as films and talks do.

It stands in for the full screen where the desktop does not tell which window fills it: GNOME, and
KDE on Wayland. Sources: `org.gnome.SessionManager.xml` (flag 8: "inhibit the session being marked
as idle"), `org.kde.Solid.PowerManagement.PolicyAgent.xml` (4: "ChangeScreenSettings").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jeepney import DBusAddress

from pleb_agent.probe.backend import NotHere
from pleb_agent.probe.bus import CallRefused

if TYPE_CHECKING:
    from pleb_agent.probe.bus import Bus

__all__ = ["ScreenKeptOn"]


class _Keeper(NamedTuple):
    """A service that knows, how it is asked, and what it tells by itself."""

    address: DBusAddress
    method: str
    flag: int
    signals: tuple[str, ...]


_GNOME: Final = _Keeper(
    DBusAddress(
        "/org/gnome/SessionManager",
        bus_name="org.gnome.SessionManager",
        interface="org.gnome.SessionManager",
    ),
    "IsInhibited",
    8,
    ("InhibitorAdded", "InhibitorRemoved"),
)
_KDE: Final = _Keeper(
    DBusAddress(
        "/org/kde/Solid/PowerManagement/PolicyAgent",
        bus_name="org.kde.Solid.PowerManagement.PolicyAgent",
        interface="org.kde.Solid.PowerManagement.PolicyAgent",
    ),
    "HasInhibition",
    4,
    ("InhibitionsChanged",),
)


class ScreenKeptOn:
    """Watches the first of these services that is on the session's bus.

    Raises:
        NotHere: none is.
        CannotRead: the bus fails.
    """

    locked = False
    in_use = False

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        found = [keeper for keeper in (_GNOME, _KDE) if bus.has_owner(keeper.address.bus_name)]
        if not found:
            raise NotHere("No service on the session's message bus knows of films.")
        self._keeper = found[0]
        for member in self._keeper.signals:
            bus.listen(interface=self._keeper.address.interface, member=member)
        self.fullscreen = self._ask()

    def fileno(self) -> int:
        """Return the connection, readable when a program begins or ends to keep the screen on."""
        return self._bus.fileno()

    def close(self) -> None:
        """Leave the bus."""
        self._bus.close()

    def take(self) -> None:
        """Ask again after a signal."""
        while self._bus.signals():
            self.fullscreen = self._ask()

    def _ask(self) -> bool:
        keeper = self._keeper
        try:
            return bool(self._bus.call(keeper.address, keeper.method, "u", (keeper.flag,))[0])
        except CallRefused:
            return False
