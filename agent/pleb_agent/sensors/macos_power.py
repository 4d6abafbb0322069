"""Power on macOS: `pmset -g batt` (pmset(1)), and a cheap check whether a charger came or went.

`IOPSGetTimeRemainingEstimate` (IOKit/ps/IOPowerSources.h) returns -2 while the power is unlimited.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readings import UNKNOWN_POWER, Power, PowerSource

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MacCharger", "MacPower", "ask_pmset", "parse_pmset"]

_IOKIT: Final = "/System/Library/Frameworks/IOKit.framework/IOKit"
_SECONDS: Final = 3.0
_UNLIMITED: Final = -2.0
_SOURCES: Final = {
    "AC Power": PowerSource.MAINS,
    "Battery Power": PowerSource.BATTERY,
    "UPS Power": PowerSource.UPS,
}
_FROM: Final = re.compile(r"^Now drawing from '([^']+)'", re.MULTILINE)
_BATTERY: Final = re.compile(r"^ -(\S.*?)\s+(?:\(id=\d+\)\s+)?(\d{1,3})%;(.*)$", re.MULTILINE)


def parse_pmset(text: str) -> Power:
    """Return what the answer of `pmset -g batt` means."""
    found = _FROM.search(text)
    source = _SOURCES.get(found[1], PowerSource.UNKNOWN) if found else PowerSource.UNKNOWN
    batteries = [match for match in _BATTERY.finditer(text) if "present: false" not in match[3]]
    own = [match for match in batteries if match[1].startswith("InternalBattery")] or batteries
    percents = [min(100, int(match[2])) for match in own]
    return Power(source, sum(percents) / len(percents) if percents else None)


def ask_pmset() -> str | None:
    """Return the answer of `pmset -g batt`; None: there is none in time."""
    try:
        return subprocess.run(
            ["/usr/bin/pmset", "-g", "batt"],
            capture_output=True,
            check=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


class MacPower:
    """Asks pmset."""

    def __init__(self, ask: Callable[[], str | None] = ask_pmset) -> None:
        self._ask = ask

    def read(self) -> Power:
        """Return what feeds the machine now."""
        text = self._ask()
        return UNKNOWN_POWER if text is None else parse_pmset(text)


def time_remaining() -> float | None:
    """Return IOKit's estimate, in seconds or its code; None: there is no IOKit."""
    try:
        kit = ctypes.CDLL(_IOKIT)
    except OSError:
        return None
    kit.IOPSGetTimeRemainingEstimate.restype = ctypes.c_double
    return float(kit.IOPSGetTimeRemainingEstimate())


class MacCharger:
    """Whether the power is unlimited; a new answer means: read the power again."""

    def __init__(self, remaining: Callable[[], float | None] = time_remaining) -> None:
        self._remaining = remaining

    def read(self) -> object:
        """Return whether it is."""
        return self._remaining() == _UNLIMITED
