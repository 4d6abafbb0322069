"""GNOME: its compositor keeps an idle monitor on the session's bus.

`AddUserActiveWatch` tells of the next input, once. GetIdletime counts real input; programs that
keep the screen on do not change it. Source: `org.gnome.Mutter.IdleMonitor.xml` and
`meta-idle-monitor.c` of Mutter 43.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jeepney import DBusAddress

from pleb_agent.probe.backend import NotHere

if TYPE_CHECKING:
    from pleb_agent.probe.bus import Bus

__all__ = ["MutterBackend"]

_NAME: Final = "org.gnome.Mutter.IdleMonitor"
_MONITOR: Final = DBusAddress("/org/gnome/Mutter/IdleMonitor/Core", bus_name=_NAME, interface=_NAME)


class MutterBackend:
    """Watches the session whose bus this is.

    Raises:
        NotHere: no Mutter lives on this bus.
        CannotRead: it refuses.
    """

    method: Final = "GNOME"
    locked = False
    in_use = False
    fullscreen = False
    """GNOME tells nobody which window fills the screen."""

    def __init__(self, bus: Bus) -> None:
        if not bus.has_owner(_NAME):
            raise NotHere("GNOME's compositor is not on the session's message bus.")
        self._bus = bus
        bus.listen(sender=_NAME, interface=_NAME, member="WatchFired")
        bus.listen_for_owner(_NAME)

    def fileno(self) -> int:
        """Return the connection, readable when a watch fires."""
        return self._bus.fileno()

    def close(self) -> None:
        """Leave the bus; Mutter forgets our watches."""
        self._bus.close()

    def arm(self) -> None:
        """Ask to be told of the next input."""
        self._bus.call(_MONITOR, "AddUserActiveWatch")

    def idle_seconds(self) -> float:
        """Ask the monitor; again when a watch has fired along with the answer."""
        milliseconds = self._ask()
        while self._bus.signals():
            milliseconds = self._ask()
        return milliseconds / 1000

    def take(self) -> None:
        """Take in the signals: they only wake us."""
        self._bus.signals()

    def _ask(self) -> int:
        return int(self._bus.call(_MONITOR, "GetIdletime")[0])
