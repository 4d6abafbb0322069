"""The icon and its menu on the bus: a StatusNotifierItem and a `com.canonical.dbusmenu`.

Sources: https://www.freedesktop.org/wiki/Specifications/StatusNotifierItem/ in the form that KDE
defined and that the hosts (Plasma, xfce4-panel, Waybar, GNOME's AppIndicator extension) use,
`org.kde.StatusNotifierItem`; for the menu the XML of version 3 in libdbusmenu
(libdbusmenu-glib/dbus-menu.xml).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pleb_agent.dbus.events import NOTHING, Answer, Refusal, Signal, properties_answer
from pleb_agent.desktop.markup import in_markup
from pleb_agent.tray.look import NAME, Command, Entry, Look, State, entries

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.dbus.events import Properties
    from pleb_agent.tray.icons import Icon

__all__ = ["ITEM_INTERFACE", "ITEM_PATH", "MENU_INTERFACE", "MENU_PATH", "Item", "Menu"]

ITEM_PATH: Final = "/StatusNotifierItem"
MENU_PATH: Final = "/MenuBar"
ITEM_INTERFACE: Final = "org.kde.StatusNotifierItem"
MENU_INTERFACE: Final = "com.canonical.dbusmenu"
_ROOT: Final = 0
_MENU_PROPERTIES: Final[Properties] = {
    "Version": ("u", 3),
    "TextDirection": ("s", "ltr"),
    "Status": ("s", "normal"),
    "IconThemePath": ("as", []),
}

Layout = tuple[int, "Properties", list[tuple[str, Any]]]


class Item:
    """The icon's object on the bus; `on_command` takes clicks on it."""

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


class Menu:
    """The menu's object on the bus; `on_command` takes what was chosen.

    A layout is (number, properties, children). A change of entries alone is sent as
    `ItemsPropertiesUpdated`, so that an open menu stays open; only another set of visible entries
    is a new layout.
    """

    def __init__(self, menu: tuple[Entry, ...], on_command: Callable[[Command], None]) -> None:
        self._root = Entry(_ROOT, children=menu)
        self._on_command = on_command
        self._revision = 1

    def show(self, menu: tuple[Entry, ...]) -> list[Signal]:
        """Take another menu; return the signals of what has changed."""
        before, after = entries(self._root.children), entries(menu)
        self._root = Entry(_ROOT, children=menu)
        changed = [
            (number, entry_properties(entry))
            for number, entry in after.items()
            if entry_properties(entry) != entry_properties(before[number])
        ]
        if not changed:
            return []
        signals = [_menu_signal("ItemsPropertiesUpdated", "a(ia{sv})a(ias)", (changed, []))]
        if any(after[number].visible != before[number].visible for number, _ in changed):
            self._revision += 1
            signals.append(_menu_signal("LayoutUpdated", "ui", (self._revision, _ROOT)))
        return signals

    def answer(self, interface: str, member: str, body: tuple[Any, ...]) -> Answer:
        """Answer a call.

        Raises:
            Refusal: there is no such method, property or entry.
        """
        if interface != MENU_INTERFACE:
            return properties_answer(MENU_INTERFACE, _MENU_PROPERTIES, member, body)
        match member:
            case "GetLayout":
                layout = _layout(self._entry(body[0]), body[1], body[2])
                return Answer("u(ia{sv}av)", (self._revision, layout))
            case "GetGroupProperties":
                return Answer("a(ia{sv})", (self._group(body[0], body[1]),))
            case "GetProperty":
                return Answer("v", (self._property(body[0], body[1]),))
            case "Event":
                self._event(body[0], body[1])
                return NOTHING
            case "EventGroup":
                return Answer("ai", (self._event_group(body[0]),))
            case "AboutToShow":
                return Answer("b", (False,))
            case "AboutToShowGroup":
                return Answer("aiai", ([], []))
            case _:
                raise Refusal("UnknownMethod", f"There is no method {member}.")

    def _all(self) -> dict[int, Entry]:
        return {_ROOT: self._root} | entries(self._root.children)

    def _entry(self, number: int) -> Entry:
        try:
            return self._all()[number]
        except KeyError:
            raise Refusal("InvalidArgs", f"There is no entry {number}.") from None

    def _group(self, numbers: list[int], names: list[str]) -> list[tuple[int, Properties]]:
        known = self._all()
        return [
            (number, _chosen(entry_properties(known[number]), names))
            for number in numbers or known
            if number in known
        ]

    def _property(self, number: int, name: str) -> tuple[str, Any]:
        properties = _DEFAULTS | entry_properties(self._entry(number))
        if name not in properties:
            raise Refusal("InvalidArgs", f"An entry has no property {name}.")
        return properties[name]

    def _event(self, number: int, event: str) -> None:
        entry = self._entry(number)
        if event == "clicked" and entry.command is not None and entry.visible:
            self._on_command(entry.command)

    def _event_group(self, events: list[tuple[int, str, Any, int]]) -> list[int]:
        """Take several events; return the numbers that are no entries."""
        unknown = []
        for number, event, _, _ in events:
            if number in self._all():
                self._event(number, event)
            else:
                unknown.append(number)
        return unknown


_DEFAULTS: Final[Properties] = {
    "type": ("s", "standard"),
    "label": ("s", ""),
    "enabled": ("b", True),
    "visible": ("b", True),
    "children-display": ("s", ""),
}


def entry_properties(entry: Entry) -> Properties:
    """Return the entry's properties, without those that are the interface's defaults.

    `visible` and `enabled` are always there: a host keeps the last value that it got.
    """
    if entry.number == _ROOT:
        return {"children-display": ("s", "submenu")}
    visible = ("b", entry.visible)
    if entry.separator:
        return {"type": ("s", "separator"), "visible": visible}
    found: Properties = {
        "label": ("s", entry.label.replace("_", "__")),  # one underscore marks the access key
        "enabled": ("b", entry.enabled),
        "visible": visible,
    }
    if entry.children:
        found["children-display"] = ("s", "submenu")
    return found


def _layout(entry: Entry, depth: int, names: list[str]) -> Layout:
    """Return an entry with `depth` levels below it; -1: all of them."""
    below = entry.children if depth else ()
    children = [("(ia{sv}av)", _layout(child, depth - 1, names)) for child in below]
    return (entry.number, _chosen(entry_properties(entry), names), children)


def _chosen(properties: Properties, names: list[str]) -> Properties:
    return {k: v for k, v in properties.items() if k in names} if names else properties


def _menu_signal(member: str, signature: str, body: tuple[Any, ...]) -> Signal:
    return Signal(MENU_PATH, MENU_INTERFACE, member, signature, body)
