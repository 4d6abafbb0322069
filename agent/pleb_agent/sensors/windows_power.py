"""Power on Windows: what feeds the machine, what keeps it awake, and when it sleeps."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as LateError
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readings import UNKNOWN_POWER, Power, PowerSource
from pleb_agent.sensors.session_events import MachineState
from pleb_agent.sensors.windows_calls import hold_awake, let_sleep, on_power_event, power_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.sensors.session_events import SessionListener

__all__ = ["WindowsEvents", "WindowsPower", "WindowsPowerRequest"]

_LOG: Final = logging.getLogger("pleb.agent")
_NO_BATTERY: Final = 128
_NOT_KNOWN: Final = 255
_SUSPENDS: Final = 0x4
_RESUMES: Final = frozenset({0x7, 0x12})
_PREPARE_SECONDS: Final = 1.5
"""Windows waits two."""


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
    """Sleep and wake-up. Windows tells of a shutdown only those who have a window: not us."""

    def __init__(
        self,
        subscribe: Callable[[Callable[[int], None]], Callable[[], None]] = on_power_event,
        prepare_seconds: float = _PREPARE_SECONDS,
    ) -> None:
        self._subscribe = subscribe
        self._prepare_seconds = prepare_seconds

    async def run(self, listener: SessionListener) -> None:
        """Tell the listener until cancelled."""
        loop = asyncio.get_running_loop()

        async def prepare() -> None:
            await listener.prepare()

        def heard(event: int) -> None:  # in a thread of Windows, which waits for the return
            if event == _SUSPENDS:
                loop.call_soon_threadsafe(listener.changed, MachineState(suspending=True))
                preparing = asyncio.run_coroutine_threadsafe(prepare(), loop)
                try:
                    preparing.result(self._prepare_seconds)
                except (LateError, CancelledError):
                    preparing.cancel()
                    _LOG.warning("The machine sleeps before everything was written.")
            elif event in _RESUMES:
                loop.call_soon_threadsafe(listener.changed, MachineState())

        try:
            end = self._subscribe(heard)
        except OSError as error:
            _LOG.warning("Windows does not tell when it sleeps: %s", error)
            end = _nothing
        try:
            await asyncio.Event().wait()
        finally:
            end()


def _nothing() -> None:
    """There is nothing to end."""
