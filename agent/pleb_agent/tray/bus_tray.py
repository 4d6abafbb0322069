"""The icon on the session's bus, wherever a StatusNotifierWatcher is.

The item is registered anew whenever the watcher gets another owner: a panel was restarted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.tray.bus import BUS_NAME, BUS_PATH
from pleb_agent.tray.icons import icon_of
from pleb_agent.tray.item import ITEM_PATH, MENU_PATH, Item
from pleb_agent.tray.menu import Menu
from pleb_agent.tray.shade import ShadeWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.tray.bus import SessionBus
    from pleb_agent.tray.look import Command, Look

__all__ = ["BusTray"]

WATCHER: Final = "org.kde.StatusNotifierWatcher"
WATCHER_PATH: Final = "/StatusNotifierWatcher"
_DO_NOT_QUEUE: Final = 4


class BusTray:
    """Shows looks as a StatusNotifierItem with a menu."""

    def __init__(
        self, bus: SessionBus, look: Look, desktop: str, on_command: Callable[[Command, str], None]
    ) -> None:
        """`on_command` gets the click and what lets a new window come to the front, or nothing."""
        self._bus = bus
        self._look = look
        self._shades = ShadeWatch(bus, desktop, self._show_again)
        self._item = Item(look, icon_of(look.state, self._shades.shade), self._clicked)
        self._menu = Menu(look.menu, self._clicked)
        self._on_command = on_command
        self._name = f"org.kde.StatusNotifierItem-{os.getpid()}-1"
        self.has_host = False
        """Whether somebody shows our item."""
        self.on_host: Callable[[], None] = _nobody
        """Called when `has_host` has changed."""

    def start(self) -> None:
        """Publish the item; register it as soon as there is a watcher."""
        bus = self._bus
        bus.publish(ITEM_PATH, self._item)
        bus.publish(MENU_PATH, self._menu)
        bus.call(BUS_NAME, BUS_PATH, BUS_NAME, "RequestName", "su", (self._name, _DO_NOT_QUEUE))
        bus.listen(BUS_NAME, "NameOwnerChanged", f",arg0='{WATCHER}'", self._on_owner)
        asked = (BUS_NAME, BUS_PATH, BUS_NAME, "GetNameOwner", "s", (WATCHER,))
        bus.call(*asked, self._on_owner_told)
        self._shades.start()

    def show(self, look: Look) -> None:
        """Show another look; only what has changed is told."""
        self._look = look
        icon = icon_of(look.state, self._shades.shade)
        for signal in [*self._item.show(look, icon), *self._menu.show(look.menu)]:
            self._bus.emit(signal)

    def _show_again(self) -> None:
        self.show(self._look)

    def _clicked(self, command: Command) -> None:
        token, self._item.activation_token = self._item.activation_token, ""
        self._on_command(command, token)

    def _on_owner_told(self, body: tuple[Any, ...] | None) -> None:
        if body is not None:
            self._register()

    def _on_owner(self, body: tuple[Any, ...]) -> None:
        """(name, old owner, new owner): the watcher came, went or was replaced."""
        if body[0] != WATCHER:
            return
        if body[2]:
            self._register()
        else:
            self._set_host(False)

    def _register(self) -> None:
        asked = (WATCHER, WATCHER_PATH, WATCHER, "RegisterStatusNotifierItem", "s", (self._name,))
        self._bus.call(*asked, lambda body: self._set_host(body is not None))

    def _set_host(self, has_host: bool) -> None:
        if has_host is not self.has_host:
            self.has_host = has_host
            self.on_host()


def _nobody() -> None:
    """Nobody waits for a host."""
