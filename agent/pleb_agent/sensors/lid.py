"""Whether a laptop's lid is closed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.sensors.kernel_files import read_word, sub_folders

if TYPE_CHECKING:
    from pleb_agent.sensors.system_bus import SystemBus

__all__ = ["LinuxLid"]

ACPI: Final = Path("/proc/acpi/button/lid")


class LinuxLid:
    """Asks the firmware's button where the kernel shows it, else logind."""

    def __init__(self, bus: SystemBus, acpi: Path = ACPI) -> None:
        self._bus = bus
        self._acpi = acpi

    def read(self) -> bool | None:
        """Return whether it is closed; None: there is no lid, or nobody tells."""
        words = [read_word(folder / "state") for folder in sub_folders(self._acpi) or []]
        states = [word.split()[-1] for word in words if word]
        if states:
            return "closed" in states
        value = self._bus.property_of(
            "org.freedesktop.login1",
            "/org/freedesktop/login1",
            "org.freedesktop.login1.Manager",
            "LidClosed",
        )
        return value if isinstance(value, bool) else None
