"""Mains or battery, on Linux, read from sysfs (the kernel's `sysfs-class-power`).

- The battery of a mouse or a headset (`scope` is `Device`) is not the machine's own.
- Any charger that is online means mains, whatever its type (a dock, USB-C, a wireless pad).
- Several batteries are one: their energies are added up.
- A battery may rest at a threshold ("Not charging") or be "Full" while mains are there.
- A machine with neither battery nor charger is a desktop: mains.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pleb_agent.core.readings import UNKNOWN_POWER, Power, PowerSource
from pleb_agent.sensors.kernel_files import KeptFile, read_number, read_word, sub_folders

__all__ = ["Battery", "ChargerWatch", "LinuxPower", "Supplies", "judge", "percent_of_all"]

ROOT: Final = Path("/sys/class/power_supply")
_READS_PER_SEARCH: Final = 20


@dataclass(frozen=True)
class Battery:
    """One battery of the machine itself. None: not known. Energy in uWh, charge in uAh."""

    status: str | None = None
    energy: tuple[int, int] | None = None
    """Now and when full."""
    charge: tuple[int, int] | None = None
    """Now and when full."""
    percent: int | None = None


@dataclass(frozen=True)
class Supplies:
    """Everything that feeds the machine."""

    batteries: tuple[Battery, ...] = ()
    ups: tuple[Battery, ...] = ()
    chargers: tuple[bool | None, ...] = ()
    """Whether each is online; None: not known."""
    unclear: bool = False
    """There is something whose kind cannot be read."""


def judge(supplies: Supplies) -> Power:
    """Return what these supplies mean."""
    own = supplies.batteries or supplies.ups
    return Power(_source(supplies), percent_of_all(own))


def _source(supplies: Supplies) -> PowerSource:
    statuses = {battery.status for battery in (*supplies.batteries, *supplies.ups)}
    if any(supplies.chargers) or "Charging" in statuses:
        return PowerSource.MAINS
    if any(battery.status == "Discharging" for battery in supplies.ups):
        return PowerSource.UPS
    if "Discharging" in statuses:
        return PowerSource.BATTERY
    if not statuses:
        return PowerSource.UNKNOWN if supplies.unclear else PowerSource.MAINS
    if supplies.batteries and supplies.chargers and None not in supplies.chargers:
        return PowerSource.BATTERY  # every charger says that it is off
    if statuses <= {"Full", "Not charging"} and None not in supplies.chargers:
        return PowerSource.MAINS
    return PowerSource.UNKNOWN


def percent_of_all(batteries: tuple[Battery, ...]) -> float | None:
    """Return the charge of all batteries together, 0 to 100; None: no battery reports its own."""
    for pairs in (
        [battery.energy for battery in batteries],
        [battery.charge for battery in batteries],
    ):
        known = [pair for pair in pairs if pair is not None]
        if known and len(known) == len(batteries):
            full = sum(pair[1] for pair in known)
            return min(100.0, max(0.0, 100 * sum(pair[0] for pair in known) / full))
    percents = [b.percent for b in batteries if b.percent is not None and 0 <= b.percent <= 100]
    return sum(percents) / len(percents) if percents else None


class LinuxPower:
    """Reads `root`, by default that of sysfs."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def read(self) -> Power:
        """Return what feeds the machine now."""
        folders = sub_folders(self._root)
        return UNKNOWN_POWER if folders is None else judge(_read_supplies(folders))


def _read_supplies(folders: list[Path]) -> Supplies:
    batteries: list[Battery] = []
    ups: list[Battery] = []
    chargers: list[bool | None] = []
    unclear = False
    for folder in folders:
        kind = read_word(folder / "type")
        if read_word(folder / "scope") == "Device":
            continue
        if kind == "Battery":
            if read_number(folder / "present") != 0:
                batteries.append(_read_battery(folder))
        elif kind == "UPS":
            ups.append(_read_battery(folder))
        elif kind is None or kind == "Unknown":
            unclear = True
        else:  # Mains, Wireless, BrickID and all the kinds of USB
            online = read_number(folder / "online")
            chargers.append(None if online is None else online > 0)
    return Supplies(tuple(batteries), tuple(ups), tuple(chargers), unclear)


def _read_battery(folder: Path) -> Battery:
    return Battery(
        status=read_word(folder / "status"),
        energy=_pair(folder, "energy"),
        charge=_pair(folder, "charge"),
        percent=read_number(folder / "capacity"),
    )


def _pair(folder: Path, quantity: str) -> tuple[int, int] | None:
    now, full = read_number(folder / f"{quantity}_now"), read_number(folder / f"{quantity}_full")
    return (now, full) if now is not None and full is not None and full > 0 else None


class ChargerWatch:
    """A cheap check, once a second, whether a charger was plugged in or pulled out."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._files = self._find()
        self._reads = 0

    def read(self) -> tuple[bytes | None, ...]:
        """Return what the chargers' files say; a new answer means: read the power again."""
        self._reads += 1
        if self._reads % _READS_PER_SEARCH == 0:  # a dock came
            self._search()
        answer = tuple([file.read() for file in self._files])
        if None in answer:  # a dock went away, or one is new under an old name
            self._search()
        return answer

    def _find(self) -> list[KeptFile]:
        return [
            KeptFile(folder / "online", 16)
            for folder in sub_folders(self._root) or []
            if (folder / "online").exists() and read_word(folder / "scope") != "Device"
        ]

    def _search(self) -> None:
        for file in self._files:
            file.close()
        self._files = self._find()
