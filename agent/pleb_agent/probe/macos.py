"""macOS: Quartz counts the seconds since the last input, and must be polled.

Sources: developer.apple.com, CGEventSourceSecondsSinceLastEventType, CGSessionCopyCurrentDictionary
("CGSSessionScreenIsLocked" is not documented, but widely used). No permission is needed: no event
is read. docs/platforms.md says how it is tried.
"""

from __future__ import annotations

import ctypes
from typing import Final, Protocol

from pleb_agent.dbus.stream import ServiceMissing
from pleb_agent.probe.backend import PolledBackend

__all__ = ["MacBackend", "MacCalls", "Quartz"]

_HARDWARE: Final = 1
"""kCGEventSourceStateHIDSystemState: the user's own input, without what programs make up."""
_ANY_INPUT: Final = 0xFFFFFFFF
_UTF8: Final = 0x08000100
_FRAMEWORK: Final = "/System/Library/Frameworks/{name}.framework/{name}"


class MacCalls(Protocol):
    """What we need of macOS."""

    def seconds_since_input(self) -> float:
        """Return how long ago the last input was."""

    def screen_locked(self) -> bool:
        """Return whether the session in front is locked.

        Raises:
            ServiceMissing: there is no session with a screen.
        """


class MacBackend(PolledBackend):
    """Watches the session that we run in; macOS signals input only with a permission."""

    method: Final = "macOS"
    fullscreen = False
    """To know it would need the permission to record the screen."""

    def __init__(self, calls: MacCalls) -> None:
        self._calls = calls
        self.locked = False
        self.take()

    def idle_seconds(self) -> float:
        """Ask Quartz."""
        return max(0.0, self._calls.seconds_since_input())

    def take(self) -> None:
        """Read the lock."""
        self.locked = self._calls.screen_locked()


class Quartz:
    """The real functions. Only on macOS."""

    def __init__(self) -> None:
        self._graphics = ctypes.CDLL(_FRAMEWORK.format(name="ApplicationServices"))
        self._foundation = ctypes.CDLL(_FRAMEWORK.format(name="CoreFoundation"))
        seconds = self._graphics.CGEventSourceSecondsSinceLastEventType
        seconds.restype, seconds.argtypes = ctypes.c_double, (ctypes.c_int32, ctypes.c_uint32)
        self._graphics.CGSessionCopyCurrentDictionary.restype = ctypes.c_void_p
        # ctypes would cut pointers to 32 bits.
        foundation, pointer = self._foundation, ctypes.c_void_p
        foundation.CFStringCreateWithCString.restype = pointer
        foundation.CFStringCreateWithCString.argtypes = (
            pointer,
            ctypes.c_char_p,
            ctypes.c_uint32,
        )
        foundation.CFDictionaryGetValue.restype = pointer
        foundation.CFDictionaryGetValue.argtypes = (pointer, pointer)
        foundation.CFBooleanGetValue.restype = ctypes.c_ubyte
        foundation.CFBooleanGetValue.argtypes = (pointer,)
        foundation.CFRelease.argtypes = (pointer,)
        self._locked_key = self._foundation.CFStringCreateWithCString(
            None, b"CGSSessionScreenIsLocked", _UTF8
        )

    def seconds_since_input(self) -> float:
        """Call CGEventSourceSecondsSinceLastEventType."""
        return float(self._graphics.CGEventSourceSecondsSinceLastEventType(_HARDWARE, _ANY_INPUT))

    def screen_locked(self) -> bool:
        """Read CGSessionCopyCurrentDictionary."""
        session = self._graphics.CGSessionCopyCurrentDictionary()
        if not session:
            raise ServiceMissing("macOS has no session with a screen for this program.")
        try:
            value = self._foundation.CFDictionaryGetValue(session, self._locked_key)
            return bool(value) and bool(self._foundation.CFBooleanGetValue(value))
        finally:
            self._foundation.CFRelease(session)
