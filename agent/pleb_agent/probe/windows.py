"""Windows: the system keeps the tick of the last input, and must be polled.

Sources: learn.microsoft.com, GetLastInputInfo, GetTickCount, SHQueryUserNotificationState.
docs/platforms.md says how it is tried.
"""

from __future__ import annotations

import ctypes
from typing import Final, Protocol

from pleb_agent.dbus.stream import ServiceError
from pleb_agent.probe.backend import PolledBackend

__all__ = ["NotificationState", "User32", "WindowsBackend", "WindowsCalls"]

_TICKS: Final = 1 << 32
"""GetTickCount wraps after 49.7 days."""


class NotificationState:
    """QUERY_USER_NOTIFICATION_STATE."""

    NOT_PRESENT: Final = 1
    """The screen is locked, a screen saver runs, or another user is in front."""
    BUSY: Final = 2
    """A program fills the screen."""
    D3D_FULL_SCREEN: Final = 3
    PRESENTATION: Final = 4


_FILLED: Final = (
    NotificationState.BUSY,
    NotificationState.D3D_FULL_SCREEN,
    NotificationState.PRESENTATION,
)


class WindowsCalls(Protocol):
    """The three functions of Windows that we need."""

    def last_input_tick(self) -> int:
        """Return the milliseconds since the start of Windows at the last input, modulo 2^32.

        Raises:
            ServiceError: Windows does not say.
        """

    def tick(self) -> int:
        """Return the milliseconds since the start of Windows, modulo 2^32."""

    def notification_state(self) -> int:
        """Return whether the user accepts notifications; 0 when Windows does not say."""


class WindowsBackend(PolledBackend):
    """Watches the session that we run in."""

    method: Final = "Windows"

    def __init__(self, calls: WindowsCalls) -> None:
        self._calls = calls
        self.locked = False
        self.fullscreen = False
        self.take()

    def idle_seconds(self) -> float:
        """Return the time since the last tick of input; ticks may have wrapped in between."""
        return ((self._calls.tick() - self._calls.last_input_tick()) % _TICKS) / 1000

    def take(self) -> None:
        """Read locks and full screens."""
        state = self._calls.notification_state()
        self.locked = state == NotificationState.NOT_PRESENT
        self.fullscreen = state in _FILLED


class _LastInputInfo(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint), ("tick", ctypes.c_uint))


class User32:
    """The real functions. Only on Windows."""

    def __init__(self) -> None:
        loader = ctypes.LibraryLoader(getattr(ctypes, "WinDLL"))  # noqa: B009 - Windows only
        self._user32, self._kernel32 = loader.user32, loader.kernel32
        self._shell32 = loader.shell32
        self._kernel32.GetTickCount.restype = ctypes.c_uint

    def last_input_tick(self) -> int:
        """Call GetLastInputInfo."""
        info = _LastInputInfo(ctypes.sizeof(_LastInputInfo), 0)
        if not self._user32.GetLastInputInfo(ctypes.byref(info)):
            raise ServiceError("Windows does not report when the last input was.")
        return int(info.tick)

    def tick(self) -> int:
        """Call GetTickCount."""
        return int(self._kernel32.GetTickCount())

    def notification_state(self) -> int:
        """Call SHQueryUserNotificationState."""
        state = ctypes.c_int(0)
        failed = self._shell32.SHQueryUserNotificationState(ctypes.byref(state))
        return 0 if failed else state.value
