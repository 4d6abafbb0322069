"""Whether the screen is locked, as the desktops' screen savers tell.

Their interfaces all have GetActive and ActiveChanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jeepney import DBusAddress, HeaderFields

from pleb_agent.probe.bus import CallRefused

if TYPE_CHECKING:
    from jeepney import Message

    from pleb_agent.probe.bus import Bus

__all__ = ["ScreenSaverLock"]

SAVERS: Final = {
    "org.cinnamon.ScreenSaver": "/org/cinnamon/ScreenSaver",
    "org.freedesktop.ScreenSaver": "/org/freedesktop/ScreenSaver",
    "org.gnome.ScreenSaver": "/org/gnome/ScreenSaver",
    "org.mate.ScreenSaver": "/org/mate/ScreenSaver",
    "org.xfce.ScreenSaver": "/org/xfce/ScreenSaver",
}
"""Where each desktop's saver is. Some keep it at /ScreenSaver or at / too: the signal's interface
says whose it is."""


class ScreenSaverLock:
    """The screen savers on the session's bus.

    Raises:
        CannotRead: the bus fails.
    """

    fullscreen = False
    in_use = False

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        for name in SAVERS:
            bus.listen(interface=name, member="ActiveChanged")
            bus.listen_for_owner(name)
        self._active = {name for name in SAVERS if self._ask(name)}

    @property
    def locked(self) -> bool:
        """Whether any saver covers the screen."""
        return bool(self._active)

    def fileno(self) -> int:
        """Return the connection, readable when a saver starts or ends."""
        return self._bus.fileno()

    def close(self) -> None:
        """Leave the bus."""
        self._bus.close()

    def take(self) -> None:
        """Take in which savers have started, ended or died."""
        for signal in self._bus.signals():
            self._handle(signal)

    def _handle(self, signal: Message) -> None:
        interface = signal.header.fields.get(HeaderFields.interface, "")
        if interface in SAVERS and signal.body:
            (self._active.add if signal.body[0] else self._active.discard)(interface)
        elif len(signal.body) == 3 and signal.body[0] in SAVERS:  # name, old owner, new owner
            self._active.discard(signal.body[0])

    def _ask(self, name: str) -> bool:
        try:
            saver = DBusAddress(SAVERS[name], bus_name=name, interface=name)
            return bool(self._bus.call(saver, "GetActive")[0])
        except CallRefused:
            return False
