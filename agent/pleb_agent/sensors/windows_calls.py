"""The few functions of Windows that the sensors call, by ctypes. Nothing here decides anything.

Sources: learn.microsoft.com, winbase.h `SYSTEM_POWER_STATUS`, `PowerCreateRequest`,
`PowerSetRequest`, and powerbase.h `PowerRegisterSuspendResumeNotification`.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["hold_awake", "let_sleep", "on_power_event", "power_status"]

_SYSTEM_REQUIRED: Final = 1
_SIMPLE_STRING: Final = 1
_CALLBACK: Final = 2


class _PowerStatus(ctypes.Structure):
    _fields_ = (
        ("line", ctypes.c_ubyte),
        ("battery_flag", ctypes.c_ubyte),
        ("percent", ctypes.c_ubyte),
        ("system_flag", ctypes.c_ubyte),
        ("life_seconds", ctypes.c_ulong),
        ("full_life_seconds", ctypes.c_ulong),
    )


class _Reason(ctypes.Structure):
    """REASON_CONTEXT; its union is as large as its larger member, which we do not use."""

    _fields_ = (
        ("version", ctypes.c_ulong),
        ("flags", ctypes.c_ulong),
        ("text", ctypes.c_wchar_p),
        ("unused", ctypes.c_void_p * 3),
    )


class _Subscription(ctypes.Structure):
    """DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS."""

    _fields_ = (("callback", ctypes.c_void_p), ("context", ctypes.c_void_p))


if sys.platform == "win32":
    _KERNEL32: Final = ctypes.WinDLL("kernel32", use_last_error=True)
    _POWRPROF: Final = ctypes.WinDLL("powrprof")
    _HEARD: Final = ctypes.WINFUNCTYPE(
        ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p
    )
    _KERNEL32.PowerCreateRequest.restype = ctypes.c_void_p

    def power_status() -> tuple[int, int, int] | None:
        """Return the line's status, the battery's flags and its percent; None: it fails."""
        status = _PowerStatus()
        if not _KERNEL32.GetSystemPowerStatus(ctypes.byref(status)):
            return None
        return status.line, status.battery_flag, status.percent

    def hold_awake(why: str) -> int:
        """Ask for the system to stay awake; return the request.

        Raises:
            OSError: Windows refuses.
        """
        reason = _Reason(0, _SIMPLE_STRING, why)
        request = _KERNEL32.PowerCreateRequest(ctypes.byref(reason))
        if request in (None, ctypes.c_void_p(-1).value):
            raise ctypes.WinError(ctypes.get_last_error())
        handle = ctypes.c_void_p(request)
        if not _KERNEL32.PowerSetRequest(handle, _SYSTEM_REQUIRED):
            error = ctypes.WinError(ctypes.get_last_error())
            _KERNEL32.CloseHandle(handle)
            raise error
        return int(request)

    def let_sleep(request: int) -> None:
        """End a request."""
        handle = ctypes.c_void_p(request)
        _KERNEL32.PowerClearRequest(handle, _SYSTEM_REQUIRED)
        _KERNEL32.CloseHandle(handle)

    def on_power_event(heard: Callable[[int], None]) -> Callable[[], None]:
        """Have `heard` called, in a thread of the system, with each event; return what ends it.

        Raises:
            OSError: Windows refuses.
        """

        def call(_context: int, event: int, _setting: int) -> int:
            heard(event)
            return 0

        callback = _HEARD(call)
        pointer = ctypes.cast(callback, ctypes.c_void_p)
        subscription = _Subscription(pointer, None)
        handle = ctypes.c_void_p()
        kept: list[object] = [callback, subscription]  # ctypes frees what nobody holds
        error = _POWRPROF.PowerRegisterSuspendResumeNotification(
            _CALLBACK, ctypes.byref(subscription), ctypes.byref(handle)
        )
        if error:
            raise ctypes.WinError(error)

        def end() -> None:
            _POWRPROF.PowerUnregisterSuspendResumeNotification(handle)
            kept.clear()

        return end

else:
    _ELSEWHERE: Final = "This is not Windows."

    def power_status() -> tuple[int, int, int] | None:
        """Return nothing: this is not Windows."""
        return None

    def hold_awake(why: str) -> int:
        """Refuse: this is not Windows."""
        raise OSError(f"{_ELSEWHERE} ({why})")

    def let_sleep(request: int) -> None:
        """Do nothing: this is not Windows."""

    def on_power_event(heard: Callable[[int], None]) -> Callable[[], None]:
        """Refuse: this is not Windows."""
        raise OSError(f"{_ELSEWHERE} ({heard})")
