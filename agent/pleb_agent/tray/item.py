"""The icon on the bus: a StatusNotifierItem.

Source: https://www.freedesktop.org/wiki/Specifications/StatusNotifierItem/ in the form that KDE
defined and that the hosts (Plasma, xfce4-panel, Waybar, GNOME's AppIndicator extension) use:
`org.kde.StatusNotifierItem`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pleb_agent.dbus.events import NOTHING, Answer, Refusal, Signal, properties_answer
from pleb_agent.desktop.markup import in_markup
from pleb_agent.tray.look import NAME, Command, Look, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.dbus.events import Properties
    from pleb_agent.tray.icons import Icon

__all__ = ["ITEM_INTERFACE", "ITEM_PATH", "MENU_PATH", "Item"]

ITEM_PATH: Final = "/StatusNotifierItem"
MENU_PATH: Final = "/MenuBar"
ITEM_INTERFACE: Final = "org.kde.StatusNotifierItem"


class Item:
    """Answers the hosts' calls; `on_command` takes clicks on the icon."""

    def __init__(self, look: Look, icon: Icon, on_command: Callable[[Command], None]) -> None:
        self._look = look
        self._icon = icon
        self._on_command = on_command
        self.activation_token = ""
        """What lets the browser's window come to the front on Wayland (xdg-activation)."""

    def show(self, look: Look, icon: Icon) -> list[Signal]:
        """Take another look; return the signals of what has changed."""
        before, self._look, self._icon = (self._look, self._icon), look, icon
        signals: list[Signal] = []
        if before[1].name != icon.name:
            signals += [_signal("NewIcon"), _signal("NewAttentionIcon")]
        if before[0].tooltip != look.tooltip:
            signals.append(_signal("NewToolTip"))
        if _attention(before[0]) != _attention(look):
            signals.append(_signal("NewStatus", "s", (_attention(look),)))
        return signals

    def properties(self) -> Properties:
        """Return every property of the interface."""
        look, icon = self._look, self._icon
        return {
            "Category": ("s", "ApplicationStatus"),
            "Id": ("s", "pleb-agent"),
            "Title": ("s", NAME),
            "Status": ("s", _attention(look)),
            "WindowId": ("i", 0),
            "IconThemePath": ("s", icon.theme_path),
            "IconName": ("s", icon.name),
            "IconPixmap": ("a(iiay)", icon.pixmaps()),
            "IconAccessibleDesc": ("s", look.tooltip),
            "OverlayIconName": ("s", ""),
            "OverlayIconPixmap": ("a(iiay)", []),
            "AttentionIconName": ("s", icon.name),
            "AttentionIconPixmap": ("a(iiay)", []),
            "AttentionMovieName": ("s", ""),
            "ToolTip": ("(sa(iiay)ss)", ("", [], NAME, in_markup(look.tooltip))),
            "ItemIsMenu": ("b", False),
            "Menu": ("o", MENU_PATH),
        }

    def answer(self, interface: str, member: str, body: tuple[Any, ...]) -> Answer:
        """Answer a call.

        Raises:
            Refusal: there is no such method or property.
        """
        if interface != ITEM_INTERFACE:
            return properties_answer(ITEM_INTERFACE, self.properties(), member, body)
        match member:
            case "Activate":
                self._on_command(self._look.primary)
            case "SecondaryActivate":
                self._on_command(self._look.secondary)
            case "ProvideXdgActivationToken":
                self.activation_token = str(body[0]) if body else ""
            case "ContextMenu" | "Scroll":
                pass  # the host shows the menu itself; the wheel does nothing
            case _:
                raise Refusal("UnknownMethod", f"There is no method {member}.")
        return NOTHING


def _attention(look: Look) -> str:
    return "NeedsAttention" if look.state is State.PROBLEM else "Active"


def _signal(member: str, signature: str | None = None, body: tuple[Any, ...] = ()) -> Signal:
    return Signal(ITEM_PATH, ITEM_INTERFACE, member, signature, body)
