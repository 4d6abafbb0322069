"""The tray on Linux: a StatusNotifierItem, in one loop that sleeps until the bus or agentd sends.

A desktop whose panel shows no such items gets no icon: the loop waits for a panel that does, and
the launcher entry opens the page meanwhile.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any, Final

from jeepney import DBusAddress

from pleb_agent.dbus.bus import BUS
from pleb_agent.dbus.stream import ServiceLost
from pleb_agent.tray.follower import AgentEndedError
from pleb_agent.tray.icons import icon_of
from pleb_agent.tray.item import ITEM_PATH, MENU_PATH, Item
from pleb_agent.tray.menu import Menu
from pleb_agent.tray.shade import ShadeWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.dbus.events import EventBus
    from pleb_agent.tray.look import Command, Look
    from pleb_agent.tray.tray import Tray

__all__ = ["WATCHER", "BusTray", "run"]

WATCHER: Final = "org.kde.StatusNotifierWatcher"
_WATCHER: Final = DBusAddress("/StatusNotifierWatcher", WATCHER, WATCHER)
_DO_NOT_QUEUE: Final = 4


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
        self._shades = ShadeWatch(bus, desktop, self._show_again)
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

    def _show_again(self) -> None:
        self.show(self._look)

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


def run(tray: Tray, bus: EventBus, desktop: str, clock: Callable[[], float]) -> None:
    """Show the tray until the agent is stopped on purpose, or the session ends.

    Args:
        tray: follows agentd and carries out clicks.
        bus: the session's; it is closed at the end.
        desktop: `$XDG_CURRENT_DESKTOP`.
        clock: monotonic seconds, as the tray's own.
    """
    bus_tray = BusTray(bus, tray.look, desktop, tray.carry_out)
    tray.on_look = bus_tray.show
    follower = tray.follower
    try:
        bus_tray.start()
        while not tray.ended:
            waiting_on = [each for each in (bus, follower.connection) if each is not None]
            wake_at = follower.wake_at
            seconds = None if wake_at is None else max(0.0, wake_at - clock())
            if bus in select.select(waiting_on, [], [], seconds)[0]:
                bus.turn()
            follower.turn()
    except (ServiceLost, AgentEndedError):
        pass
    finally:
        follower.close()
        bus.close()
