"""X11: the server counts the time since the last input, and signals the next one.

The SYNC extension has a counter IDLETIME (milliseconds) and alarms on it. An alarm on a "negative
transition" fires whenever the counter falls from above a value to below it: with the first input
after an idle time. It costs nothing until then. Source: "X Synchronization Extension Protocol",
version 3.0. The full screen is that of the active window: "Extended Window Manager Hints", 1.5.
"""

from __future__ import annotations

import struct
from typing import Final

from pleb_agent.dbus.stream import ServiceError, ServiceMissing
from pleb_agent.probe.backend import QUIET_SECONDS
from pleb_agent.probe.x11_wire import X11Connection, XProtocolError

__all__ = ["X11Backend", "refuse_xwayland"]

_INITIALIZE, _LIST_COUNTERS, _QUERY_COUNTER, _CREATE_ALARM = 0, 1, 5, 8
_NEGATIVE_TRANSITION: Final = 1
_ABSOLUTE: Final = 0
_ALARM_VALUES: Final = 0b111111
"""Counter, type of value, value, type of test, delta, whether events are sent."""
_PROPERTY_NOTIFY: Final = 28
_PROPERTY_CHANGE_MASK: Final = 0x400000
_BAD_WINDOW: Final = 3
_RANDR_OUTPUT_INFO, _RANDR_SCREEN_RESOURCES_CURRENT = 9, 25


class X11Backend:
    """Watches one display.

    Raises:
        ServiceError: the server is too old, or refuses.
    """

    method: Final = "X11"
    locked = False
    in_use = False

    def __init__(self, connection: X11Connection) -> None:
        self._x = connection
        self._sync = connection.extension("SYNC").major
        connection.ask(self._sync, _INITIALIZE, struct.pack("<BBxx", 3, 0))
        self._counter = self._find_counter()
        self._set_alarm()
        self._active_name = connection.atom("_NET_ACTIVE_WINDOW")
        self._state_name = connection.atom("_NET_WM_STATE")
        self._fullscreen_name = connection.atom("_NET_WM_STATE_FULLSCREEN")
        self._active = 0
        connection.select_events(connection.root, _PROPERTY_CHANGE_MASK)
        self.fullscreen = False
        self._look_at_windows()

    def fileno(self) -> int:
        """Return the connection, readable when the alarm fires or windows change."""
        return self._x.fileno()

    def close(self) -> None:
        """Leave the server, which forgets the alarm."""
        self._x.close()

    def arm(self) -> None:
        """Do nothing: the alarm stays set."""

    def idle_seconds(self) -> float:
        """Ask the server's counter; again when events came along with the answer."""
        idle_seconds = self._ask_counter()
        while self._handle_events():
            idle_seconds = self._ask_counter()
        return idle_seconds

    def take(self) -> None:
        """Take in what has happened: an alarm only wakes us, the active window may have changed."""
        while self._handle_events():
            pass

    def _ask_counter(self) -> float:
        reply = self._x.ask(self._sync, _QUERY_COUNTER, struct.pack("<I", self._counter))
        milliseconds = int.from_bytes(reply[12:16], "little")
        milliseconds += int.from_bytes(reply[8:12], "little", signed=True) << 32
        return max(0.0, milliseconds / 1000)

    def _handle_events(self) -> bool:
        """Return whether there were any."""
        events = self._x.events()
        of_windows = (self._active_name, self._state_name)
        notices = (event for event in events if event[0] & 0x7F == _PROPERTY_NOTIFY)
        if any(struct.unpack_from("<I", notice, 8)[0] in of_windows for notice in notices):
            self._look_at_windows()
        return bool(events)

    def _find_counter(self) -> int:
        reply = self._x.ask(self._sync, _LIST_COUNTERS)
        count = struct.unpack_from("<I", reply, 8)[0]
        at = 32
        for _ in range(count):
            counter, size = struct.unpack_from("<I8xH", reply, at)
            if reply[at + 14 : at + 14 + size] == b"IDLETIME":
                return int(counter)
            at += 14 + size + (-(14 + size) % 4)
        raise ServiceError("The X server does not count the idle time (no IDLETIME counter).")

    def _set_alarm(self) -> None:
        milliseconds = int(QUIET_SECONDS * 1000)
        body = struct.pack(
            "<IIIIiIIiII",
            self._x.new_id(),
            _ALARM_VALUES,
            self._counter,
            _ABSOLUTE,
            0,
            milliseconds,
            _NEGATIVE_TRANSITION,
            0,
            0,
            1,
        )
        self._x.send(self._sync, _CREATE_ALARM, body)

    def _look_at_windows(self) -> None:
        """Look whether the active window fills the screen; it may close at any moment."""
        active = next(iter(self._x.numbers(self._x.root, self._active_name)), 0)
        if active != self._active:
            self._watch_window(self._active, 0)
            self._watch_window(active, _PROPERTY_CHANGE_MASK)
            self._active = active
        try:
            states = self._x.numbers(active, self._state_name) if active else ()
        except XProtocolError as error:
            if error.code != _BAD_WINDOW:
                raise
            states = ()
        self.fullscreen = self._fullscreen_name in states

    def _watch_window(self, window: int, mask: int) -> None:
        if window not in (0, self._x.root):
            self._x.select_events(window, mask)


def refuse_xwayland(connection: X11Connection) -> None:
    """Refuse to read an X server that runs inside of a Wayland compositor.

    It sees input only while one of its own windows has it. Xwayland has an extension of that name
    since 23.1; before, its outputs are named XWAYLAND0, XWAYLAND1 and so on.

    Raises:
        ServiceError: it is Xwayland.
    """
    sentence = "This X server belongs to a Wayland compositor, and sees only part of the input."
    try:
        connection.extension("XWAYLAND")
    except ServiceMissing:
        if _first_output(connection).startswith(b"XWAYLAND"):
            raise ServiceError(sentence) from None
    else:
        raise ServiceError(sentence)


def _first_output(connection: X11Connection) -> bytes:
    """Return the name of the first screen. Source: "RandR", version 1.5, appendix A."""
    try:
        randr = connection.extension("RANDR").major
    except ServiceMissing:
        return b""
    connection.ask(randr, 0, struct.pack("<II", 1, 3))
    resources = connection.ask(
        randr, _RANDR_SCREEN_RESOURCES_CURRENT, struct.pack("<I", connection.root)
    )
    stamp, crtcs, outputs = struct.unpack_from("<4xIHH", resources, 8)
    if not outputs:
        return b""
    output = struct.unpack_from("<I", resources, 32 + 4 * crtcs)[0]
    info = connection.ask(randr, _RANDR_OUTPUT_INFO, struct.pack("<II", output, stamp))
    crtcs, modes, _, clones, name_bytes = struct.unpack_from("<HHHHH", info, 26)
    at = 36 + 4 * (crtcs + modes + clones)
    return info[at : at + name_bytes]
