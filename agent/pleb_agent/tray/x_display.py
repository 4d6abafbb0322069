"""What an icon in an old tray asks of an X server, over the probe's small client.

Source: "X Window System Protocol", X Consortium Standard, X Version 11, release 7.7, appendix B
(encodings). Xlib by ctypes would take a megabyte more and ends the process when the server goes.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from pleb_agent.probe.x11_place import authority_file, find_cookie, parse_display
from pleb_agent.probe.x11_wire import X11Connection, XProtocolError
from pleb_agent.tray.errors import NoDisplayError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Event", "Happening", "XDisplay", "event_of", "open_display", "over"]

_CREATE_WINDOW, _DESTROY_WINDOW, _GET_GEOMETRY, _CHANGE_PROPERTY = 1, 4, 14, 18
_GET_SELECTION_OWNER, _SEND_EVENT, _CREATE_GC, _CLEAR_AREA = 23, 25, 55, 61
_PUT_IMAGE, _GET_IMAGE = 72, 73
_INPUT_OUTPUT: Final = 1
_BACKGROUND_AND_EVENTS: Final = 0x801
_PARENT_RELATIVE: Final = 1
_BUTTON_PRESS_MASK, _EXPOSURE_MASK, STRUCTURE_NOTIFY = 1 << 2, 1 << 15, 1 << 17
_Z_PIXMAP: Final = 2
_ALL_PLANES: Final = 0xFFFFFFFF
_REPLY_BYTES: Final = 32
_TRUE_COLOUR_DEPTHS: Final = frozenset({24, 32})
_WM_NAME, _STRING = 39, 31
"""Atoms that every server knows."""


class Happening(IntEnum):
    """Codes of events."""

    BUTTON_PRESS = 4
    EXPOSE = 12
    DESTROY = 17
    CONFIGURE = 22
    CLIENT_MESSAGE = 33


class Event(NamedTuple):
    """What happened to a window. `numbers`: of a client message, its type first."""

    kind: int
    window: int
    button: int = 0
    numbers: tuple[int, ...] = ()


class XDisplay:
    """A connection to an X server, with the requests that a tray icon needs."""

    def __init__(self, connection: X11Connection) -> None:
        self._connection = connection
        self.screen: Final = 0
        self.root = connection.root
        self._depth = connection.ask(_GET_GEOMETRY, 0, struct.pack("<I", self.root))[1]
        if self._depth not in _TRUE_COLOUR_DEPTHS:
            raise NoDisplayError("This X display has too few colours for an icon.")
        self._graphics = connection.new_id()
        connection.send(_CREATE_GC, 0, struct.pack("<III", self._graphics, self.root, 0))

    def fileno(self) -> int:
        """Return what to wait for."""
        return self._connection.fileno()

    def close(self) -> None:
        """Leave the server; our windows are gone."""
        self._connection.close()

    def atom(self, name: str) -> int:
        """Return the number of a name."""
        return self._connection.atom(name)

    def watch(self, window: int, mask: int) -> None:
        """Get the events of a window; of one that is gone, none."""
        self._connection.select_events(window, mask)

    def selection_owner(self, atom: int) -> int:
        """Return the window that owns a selection; 0: none."""
        reply = self._connection.ask(_GET_SELECTION_OWNER, 0, struct.pack("<I", atom))
        return int(struct.unpack_from("<I", reply, 8)[0])

    def make_window(self, size: int) -> int:
        """Return a new window, not shown yet, that shows its parent's background."""
        window = self._connection.new_id()
        events = _BUTTON_PRESS_MASK | _EXPOSURE_MASK | STRUCTURE_NOTIFY
        shape = struct.pack("<IIhhHHHHI", window, self.root, 0, 0, size, size, 0, _INPUT_OUTPUT, 0)
        values = struct.pack("<III", _BACKGROUND_AND_EVENTS, _PARENT_RELATIVE, events)
        self._connection.send(_CREATE_WINDOW, 0, shape + values)
        return window

    def destroy(self, window: int) -> None:
        """Destroy a window."""
        self._connection.send(_DESTROY_WINDOW, 0, struct.pack("<I", window))

    def set_numbers(self, window: int, name: str, kind: str, numbers: tuple[int, ...]) -> None:
        """Set a property of 32 bit numbers; `kind` names its type."""
        values = struct.pack(f"<{len(numbers)}I", *numbers)
        self._set(window, (self.atom(name), self.atom(kind)), 32, len(numbers), values)

    def set_name(self, window: int, name: str) -> None:
        """Set a window's name, which assistive programs read."""
        text = name.encode("latin-1", "replace")
        self._set(window, (_WM_NAME, _STRING), 8, len(text), text + bytes(-len(text) % 4))

    def size(self, window: int) -> tuple[int, int]:
        """Return width and height; zeros if the window is gone."""
        try:
            reply = self._connection.ask(_GET_GEOMETRY, 0, struct.pack("<I", window))
        except XProtocolError:
            return (0, 0)
        width, height = struct.unpack_from("<HH", reply, 16)
        return (width, height)

    def send(self, window: int, kind: int, numbers: tuple[int, int, int, int, int]) -> None:
        """Send a window a client message about itself."""
        message = struct.pack("<BBHII5I", Happening.CLIENT_MESSAGE, 32, 0, window, kind, *numbers)
        self._connection.send(_SEND_EVENT, 0, struct.pack("<II", window, 0) + message)

    def events(self) -> list[Event]:
        """Return what has come; waits for nothing."""
        return [event_of(packet) for packet in self._connection.events()]

    def blend(self, window: int, rgba: bytes, width: int, height: int) -> None:
        """Paint an image (height x width x 4 bytes) in the middle of a window.

        The background that shines through is the window's own, as its parent painted it.
        """
        wide, high = self.size(window)
        left, top = (wide - width) // 2, (high - height) // 2
        if left < 0 or top < 0:
            return  # gone, or not as large yet as it asked to be
        self._connection.send(_CLEAR_AREA, 0, struct.pack("<IhhHH", window, 0, 0, 0, 0))
        place = struct.pack("<IhhHHI", window, left, top, width, height, _ALL_PLANES)
        try:
            below = self._connection.ask(_GET_IMAGE, _Z_PIXMAP, place)[_REPLY_BYTES:]
        except XProtocolError:
            return  # covered or gone; it will ask again
        if len(below) != len(rgba):
            return  # a server that packs its pixels in another way
        target = struct.pack("<IIHHhh", window, self._graphics, width, height, left, top)
        body = target + struct.pack("<BBH", 0, self._depth, 0) + over(rgba, below)
        self._connection.send(_PUT_IMAGE, _Z_PIXMAP, body)

    def _set(
        self, window: int, atoms: tuple[int, int], width_bits: int, count: int, data: bytes
    ) -> None:
        head = struct.pack("<IIIB3xI", window, *atoms, width_bits, count)
        self._connection.send(_CHANGE_PROPERTY, 0, head + data)


def event_of(packet: bytes) -> Event:
    """Return the event in 32 bytes; of those that we do not look at, their code and some window."""
    kind = packet[0] & 0x7F  # the highest bit: another client has sent it
    if kind == Happening.BUTTON_PRESS:
        return Event(kind, struct.unpack_from("<I", packet, 12)[0], button=packet[1])
    window = struct.unpack_from("<I", packet, 4)[0]
    if kind == Happening.CLIENT_MESSAGE:
        return Event(kind, window, numbers=struct.unpack_from("<6I", packet, 8))
    return Event(kind, window)


def over(rgba: bytes, below: bytes) -> bytes:
    """Return pixels (blue, green, red, unused) of an image over other pixels."""
    found = bytearray(below)
    for at in range(0, len(below), 4):
        alpha = rgba[at + 3]
        for channel in range(3):
            colour = rgba[at + 2 - channel]
            found[at + channel] = (colour * alpha + below[at + channel] * (255 - alpha)) // 255
    return bytes(found)


def open_display(environment: Mapping[str, str]) -> XDisplay:
    """Return a connection to the display that the environment names.

    Raises:
        CannotRead: it names none, or there is none.
        NoDisplayError: it has too few colours.
    """
    place = parse_display(environment.get("DISPLAY", ""))
    return XDisplay(X11Connection(place, find_cookie(authority_file(environment), place)))
