"""The menu on the bus: `com.canonical.dbusmenu`, version 3.

Source: the interface's XML in libdbusmenu (libdbusmenu-glib/dbus-menu.xml). A layout is
(number, properties, children). A change of entries alone is sent as `ItemsPropertiesUpdated`, so
that an open menu stays open; only another set of visible entries is a new layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pleb_agent.dbus.events import NOTHING, Answer, Refusal, Signal, properties_answer
from pleb_agent.tray.item import MENU_PATH
from pleb_agent.tray.look import Entry, entries

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.dbus.events import Properties
    from pleb_agent.tray.look import Command

__all__ = ["MENU_INTERFACE", "Menu", "entry_properties"]

MENU_INTERFACE: Final = "com.canonical.dbusmenu"
_ROOT: Final = 0
_PROPERTIES: Final[Properties] = {
    "Version": ("u", 3),
    "TextDirection": ("s", "ltr"),
    "Status": ("s", "normal"),
    "IconThemePath": ("as", []),
}

Layout = tuple[int, "Properties", list[tuple[str, Any]]]


class Menu:
    """Answers the hosts' calls; `on_command` takes what was chosen."""

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
        signals = [_signal("ItemsPropertiesUpdated", "a(ia{sv})a(ias)", (changed, []))]
        if any(after[number].visible != before[number].visible for number, _ in changed):
            self._revision += 1
            signals.append(_signal("LayoutUpdated", "ui", (self._revision, _ROOT)))
        return signals

    def answer(self, interface: str, member: str, body: tuple[Any, ...]) -> Answer:
        """Answer a call.

        Raises:
            Refusal: there is no such method, property or entry.
        """
        if interface != MENU_INTERFACE:
            return properties_answer(MENU_INTERFACE, _PROPERTIES, member, body)
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


def _signal(member: str, signature: str, body: tuple[Any, ...]) -> Signal:
    return Signal(MENU_PATH, MENU_INTERFACE, member, signature, body)
