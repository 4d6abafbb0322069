"""Power on Windows: what feeds the machine, what keeps it awake, and when it sleeps.

Sources: learn.microsoft.com, winbase.h `SYSTEM_POWER_STATUS`, `PowerCreateRequest`,
`PowerSetRequest`, and powerbase.h `PowerRegisterSuspendResumeNotification`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
from concurrent.futures import CancelledError
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readings import UNKNOWN_POWER, Power, PowerSource
from pleb_agent.sensors.session_events import MachineState

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.sensors.session_events import SessionListener

__all__ = [
    "WindowsEvents",
    "WindowsPower",
    "WindowsPowerRequest",
    "hold_awake",
    "let_sleep",
    "on_power_event",
    "power_status",
]

_LOG: Final = logging.getLogger("pleb.agent")
_NO_BATTERY: Final = 128
_NOT_KNOWN: Final = 255
_SUSPENDS: Final = 0x4
_RESUMES: Final = frozenset({0x7, 0x12})
_PREPARE_SECONDS: Final = 1.5
"""Windows waits two."""
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
    _CALLBACK_TYPE: Final = ctypes.WINFUNCTYPE(
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

    def on_power_event(on_event: Callable[[int], None]) -> Callable[[], None]:
        """Have `on_event` called, in a thread of the system, with each event; return what ends it.

        Raises:
            OSError: Windows refuses.
        """

        def call(_context: int, event: int, _setting: int) -> int:
            on_event(event)
            return 0

        callback = _CALLBACK_TYPE(call)
        pointer = ctypes.cast(callback, ctypes.c_void_p)
        subscription = _Subscription(pointer, None)
        handle = ctypes.c_void_p()
        kept: list[object] = [callback, subscription]  # ctypes frees what is not referenced
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

    def on_power_event(on_event: Callable[[int], None]) -> Callable[[], None]:
        """Refuse: this is not Windows."""
        raise OSError(f"{_ELSEWHERE} ({on_event})")


class WindowsPower:
    """GetSystemPowerStatus. A UPS on USB is a battery like any other there."""

    def __init__(self, status: Callable[[], tuple[int, int, int] | None] = power_status) -> None:
        self._status = status

    def read(self) -> Power:
        """Return what feeds the machine now."""
        status = self._status()
        if status is None:
            return UNKNOWN_POWER
        line, flags, percent = status
        has_battery = flags != _NOT_KNOWN and not flags & _NO_BATTERY
        charge = float(percent) if has_battery and percent <= 100 else None
        if line == 1 or (flags != _NOT_KNOWN and not has_battery):
            return Power(PowerSource.MAINS, charge)
        if line == 0:
            return Power(PowerSource.BATTERY, charge)
        return Power(PowerSource.UNKNOWN, charge)


class WindowsPowerRequest:
    """A power request; `powercfg /requests` shows it with its reason."""

    def __init__(
        self,
        hold: Callable[[str], int] = hold_awake,
        let_go: Callable[[int], None] = let_sleep,
    ) -> None:
        self._hold = hold
        self._let_go = let_go
        self._request: int | None = None

    def hold(self) -> None:
        """Keep the machine awake from now on.

        Raises:
            OSError: Windows refuses.
        """
        self._request = self._hold("Pleb-Cluster computes a unit.")

    def release(self) -> None:
        """Let it sleep again."""
        if self._request is not None:
            self._let_go(self._request)
            self._request = None


class WindowsEvents:
    """Sleep and wake-up. Windows reports a shutdown only to programs with a window: not to us."""

    def __init__(
        self,
        subscribe: Callable[[Callable[[int], None]], Callable[[], None]] = on_power_event,
        prepare_seconds: float = _PREPARE_SECONDS,
    ) -> None:
        self._subscribe = subscribe
        self._prepare_seconds = prepare_seconds

    async def run(self, listener: SessionListener) -> None:
        """Call the listener until cancelled."""
        loop = asyncio.get_running_loop()

        def on_event(event: int) -> None:  # in a thread of Windows, which waits for the return
            if event == _SUSPENDS:
                loop.call_soon_threadsafe(listener.changed, MachineState(suspending=True))
                preparing = asyncio.run_coroutine_threadsafe(listener.prepare(), loop)
                try:
                    preparing.result(self._prepare_seconds)
                except (TimeoutError, CancelledError):
                    preparing.cancel()
                    _LOG.warning("The machine sleeps before everything was written.")
            elif event in _RESUMES:
                loop.call_soon_threadsafe(listener.changed, MachineState())

        with ExitStack() as stack:
            try:
                stack.callback(self._subscribe(on_event))
            except OSError as error:
                _LOG.warning("Windows does not report when it sleeps: %s", error)
            await asyncio.Event().wait()
