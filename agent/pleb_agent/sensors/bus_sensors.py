"""What services on Linux's system bus say: a UPS on USB, a metered network."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any, Final

from jeepney import DBusAddress

from pleb_agent.core.readings import Power, PowerSource
from pleb_agent.dbus.bus import Bus, CallRefused, open_bus, system_address
from pleb_agent.dbus.stream import ANSWER_SECONDS, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.sensors.sensor import Sensor

__all__ = ["NetworkManagerMetered", "PowerWithUps", "SystemBus"]

_NETWORK_MANAGER: Final = DBusAddress(
    "/org/freedesktop/NetworkManager",
    "org.freedesktop.NetworkManager",
    "org.freedesktop.NetworkManager",
)
_METERED: Final = {1: True, 2: False, 3: True, 4: False}
"""NM_METERED_YES, NO, GUESS_YES and GUESS_NO."""
_UPOWER: Final = DBusAddress(
    "/org/freedesktop/UPower", "org.freedesktop.UPower", "org.freedesktop.UPower"
)
_ALL_BATTERIES: Final = DBusAddress(
    "/org/freedesktop/UPower/devices/DisplayDevice",
    "org.freedesktop.UPower",
    "org.freedesktop.UPower.Device",
)
_MAINS_ALONE: Final = Power(PowerSource.MAINS)
_UPOWER_SECONDS: Final = 25.0
"""How often at most it is asked: a call costs more than the kernel's files."""


class SystemBus:
    """One connection, opened when it is first needed and again after it broke.

    Not for two threads at once.
    """

    def __init__(self, address: str = "", timeout_seconds: float = ANSWER_SECONDS) -> None:
        self._address = address or system_address(os.environ)
        self._timeout_seconds = timeout_seconds
        self._bus: Bus | None = None

    def get(self, address: DBusAddress, name: str) -> Any | None:
        """Return a property; None: no bus, no such service or property, or no answer."""
        try:
            if self._bus is None:
                self._bus = open_bus(
                    self._address, timeout_seconds=self._timeout_seconds, start_services=True
                )
            return self._bus.get(address, name)
        except CallRefused:
            return None
        except ServiceError:
            self.close()
            return None

    def close(self) -> None:
        """Close the connection."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None


class NetworkManagerMetered:
    """Whether the network counts bytes; None where NetworkManager is missing or does not know."""

    def __init__(self, bus: SystemBus) -> None:
        self._bus = bus

    def read(self) -> bool | None:
        """Return whether the connection in use is metered."""
        return _METERED.get(self._bus.get(_NETWORK_MANAGER, "Metered") or 0)


class PowerWithUps:
    """What the kernel says; where that is a machine without any battery, what UPower says.

    The kernel does not list a UPS on USB as a power supply. `OnBattery` looks only at what feeds
    this machine, and the display device sums up all of that (UPower's D-Bus interface).
    """

    def __init__(
        self,
        kernel: Sensor[Power],
        bus: SystemBus,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kernel = kernel
        self._bus = bus
        self._clock = clock
        self._asked_at = -math.inf
        self._answer = _MAINS_ALONE

    def read(self) -> Power:
        """Return what feeds the machine now; UPower is asked less often than the kernel."""
        power = self._kernel.read()
        if power != _MAINS_ALONE:
            return power
        now = self._clock()
        if now - self._asked_at >= _UPOWER_SECONDS:
            self._asked_at, self._answer = now, self._of_ups(power)
        return self._answer

    def _of_ups(self, power: Power) -> Power:
        if self._bus.get(_UPOWER, "OnBattery") is not True:
            return power
        percent = self._bus.get(_ALL_BATTERIES, "Percentage")
        is_known = isinstance(percent, float) and 0 <= percent <= 100
        return Power(PowerSource.UPS, percent if is_known else None)
