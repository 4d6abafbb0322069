"""A UPS on USB, which the kernel does not list as a power supply: UPower knows it.

See UPower's D-Bus interface: `OnBattery` looks only at what feeds this machine, and the display
device stands for all of that together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.core.readings import Power, PowerSource

if TYPE_CHECKING:
    from pleb_agent.sensors.sensor import Sensor
    from pleb_agent.sensors.system_bus import SystemBus

__all__ = ["PowerWithUps"]

_SERVICE: Final = "org.freedesktop.UPower"
_PATH: Final = "/org/freedesktop/UPower"
_MAINS_ALONE: Final = Power(PowerSource.MAINS)


class PowerWithUps:
    """What the kernel says; where that is a machine without any battery, what UPower says."""

    def __init__(self, kernel: Sensor[Power], bus: SystemBus) -> None:
        self._kernel = kernel
        self._bus = bus

    def read(self) -> Power:
        """Return what feeds the machine now."""
        power = self._kernel.read()
        if power != _MAINS_ALONE:
            return power
        if self._bus.property_of(_SERVICE, _PATH, _SERVICE, "OnBattery") is not True:
            return power
        percent = self._bus.property_of(
            _SERVICE, f"{_PATH}/devices/DisplayDevice", f"{_SERVICE}.Device", "Percentage"
        )
        is_told = isinstance(percent, float) and 0 <= percent <= 100
        return Power(PowerSource.UPS, percent if is_told else None)
