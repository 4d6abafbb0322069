"""The tray on Linux: a StatusNotifierItem, in one loop that sleeps until the bus or agentd sends.

A desktop whose panel shows no such items gets no icon: the loop waits for a panel that does, and
the launcher entry opens the page meanwhile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from jeepney import DBusAddress

from pleb_agent.dbus.bus import BUS
from pleb_agent.dbus.stream import ServiceLost
from pleb_agent.tray.follower import AgentEndedError
from pleb_agent.tray.icons import Shade, icon_of
from pleb_agent.tray.item import ITEM_PATH, MENU_PATH, Item, Menu

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.dbus.events import EventBus
    from pleb_agent.tray.look import Command, Look
    from pleb_agent.tray.tray import Tray

__all__ = ["WATCHER", "BusTray", "ShadeWatch", "run", "shade_of"]

WATCHER: Final = "org.kde.StatusNotifierWatcher"
_WATCHER: Final = DBusAddress("/StatusNotifierWatcher", WATCHER, WATCHER)
_DO_NOT_QUEUE: Final = 4
_ALWAYS_DARK: Final = frozenset({"GNOME", "UNITY", "PANTHEON"})
_PORTAL: Final = DBusAddress(
    "/org/freedesktop/portal/desktop",
    "org.freedesktop.portal.Desktop",
    "org.freedesktop.portal.Settings",
)
_SCHEME: Final = ("org.freedesktop.appearance", "color-scheme")
_XFCONF: Final = DBusAddress("/org/xfce/Xfconf", "org.xfce.Xfconf", "org.xfce.Xfconf")
_XFCE_PANEL: Final = ("xfce4-panel", "/panels/dark-mode")


def shade_of(desktop: str, color_scheme: int = 0, *, xfce_dark_mode: bool | None = None) -> Shade:
    """Return the panel's shade.

    Args:
        desktop: `$XDG_CURRENT_DESKTOP`, names between colons.
        color_scheme: what the settings portal says: 1 dark, 2 light, 0 no preference.
        xfce_dark_mode: the panel's option; None: not known.
    """
    names = set(desktop.upper().split(":"))
    if names & _ALWAYS_DARK:
        return Shade.DARK
    if "XFCE" in names and xfce_dark_mode:
        return Shade.DARK
    if "KDE" in names:
        return {1: Shade.DARK, 2: Shade.LIGHT}.get(color_scheme, Shade.UNKNOWN)
    return Shade.UNKNOWN


class ShadeWatch:
    """Asks the desktop for the panel's shade, and listens for changes.

    No desktop reports its panel's colour itself. GNOME's bar, and those derived from it, are always
    dark; in Xfce "dark mode" is an option of the panel; Plasma's panel follows the colour scheme.
    Everywhere else the icon in colour is shown, which can be seen on both.
    """

    def __init__(self, bus: EventBus, desktop: str, on_change: Callable[[], None]) -> None:
        self._bus = bus
        self._desktop = desktop
        self._on_change = on_change
        self._scheme = 0
        self._xfce: bool | None = None
        self.shade = shade_of(desktop)

    def start(self) -> None:
        """Ask what this desktop can say; answers come through the bus."""
        names = self._desktop.upper().split(":")
        if "KDE" in names:
            self._follow(_PORTAL, "Read", "SettingChanged", _SCHEME)
        if "XFCE" in names:
            self._follow(_XFCONF, "GetProperty", "PropertyChanged", _XFCE_PANEL)

    def _follow(
        self, service: DBusAddress, getter: str, signal: str, setting: tuple[str, str]
    ) -> None:
        def answered(body: tuple[Any, ...] | None) -> None:
            if body is not None:
                self._take(_plain(body[0]))

        def changed(body: tuple[Any, ...]) -> None:
            if body[:2] == setting:
                self._take(_plain(body[2]))

        self._bus.listen(service.interface, signal, changed)
        self._bus.call(service, getter, "ss", setting, answered)

    def _take(self, value: Any) -> None:
        if isinstance(value, bool):
            self._xfce = value
        elif isinstance(value, int):
            self._scheme = value
        shade = shade_of(self._desktop, self._scheme, xfce_dark_mode=self._xfce)
        if shade is not self.shade:
            self.shade = shade
            self._on_change()


def _plain(value: Any) -> Any:
    """Return the value inside of its variants; the portal's `Read` answers with two of them."""
    while isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    return value


class BusTray:
    """Shows looks as a StatusNotifierItem with a menu.

    The item is registered again whenever the watcher gets another owner: a panel was restarted.
    """

    def __init__(
        self, bus: EventBus, look: Look, desktop: str, on_command: Callable[[Command, str], None]
    ) -> None:
        """`on_command` takes a click and the token (or "") that lets a new window be activated."""
        self._bus = bus
        self._look = look
        self._shades = ShadeWatch(bus, desktop, lambda: self.show(self._look))
        self._item = Item(look, icon_of(look.state, self._shades.shade), self._clicked)
        self._menu = Menu(look.menu, self._clicked)
        self._on_command = on_command
        self._name = f"org.kde.StatusNotifierItem-{os.getpid()}-1"

    def start(self) -> None:
        """Publish the item; register it as soon as there is a watcher."""
        bus = self._bus
        bus.publish(ITEM_PATH, self._item)
        bus.publish(MENU_PATH, self._menu)
        bus.call(BUS, "RequestName", "su", (self._name, _DO_NOT_QUEUE))
        bus.listen(BUS.interface, "NameOwnerChanged", self._on_owner_changed, WATCHER)
        bus.call(BUS, "GetNameOwner", "s", (WATCHER,), self._on_owner)
        self._shades.start()

    def show(self, look: Look) -> None:
        """Show another look; signals are sent only for what has changed."""
        self._look = look
        icon = icon_of(look.state, self._shades.shade)
        for signal in [*self._item.show(look, icon), *self._menu.show(look.menu)]:
            self._bus.emit(signal)

    def _clicked(self, command: Command) -> None:
        token, self._item.activation_token = self._item.activation_token, ""
        self._on_command(command, token)

    def _on_owner(self, body: tuple[Any, ...] | None) -> None:
        if body is not None:
            self._register()

    def _on_owner_changed(self, body: tuple[Any, ...]) -> None:
        name, _, new_owner = body
        if name == WATCHER and new_owner:
            self._register()

    def _register(self) -> None:
        self._bus.call(_WATCHER, "RegisterStatusNotifierItem", "s", (self._name,))


def run(tray: Tray, bus: EventBus, desktop: str) -> None:
    """Show the tray until the agent is stopped on purpose, or the session ends.

    Args:
        tray: follows agentd and carries out clicks.
        bus: the session's; it is closed at the end.
        desktop: `$XDG_CURRENT_DESKTOP`.
    """
    bus_tray = BusTray(bus, tray.look, desktop, tray.carry_out)
    tray.on_look = bus_tray.show
    follower = tray.follower
    try:
        bus_tray.start()
        while not tray.ended:
            if follower.wait(bus):
                bus.turn()
            follower.turn()
    except (ServiceLost, AgentEndedError):
        pass
    finally:
        follower.close()
        bus.close()
