"""What the sensors say at one moment. Nothing here decides; `readiness` does.

Every reading has a value for "unknown" (None, or a kind of its own). A sensor that fails reports
that, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pleb_agent.core.override import NO_OVERRIDE, Override
from pleb_agent.core.schedule import MONDAY_MIDNIGHT, LocalTime
from pleb_agent.core.signals import NO_RULES, SignalReading, SignalRules

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "NO_SESSION",
    "UNKNOWN_POWER",
    "Gpu",
    "LocalTime",
    "Power",
    "PowerSource",
    "Presence",
    "PresenceKind",
    "Readings",
]


class PresenceKind(StrEnum):
    """Whether the user's input can be read."""

    NO_SESSION = "no_session"
    """No session at all: a server, or started with --headless."""
    READABLE = "readable"
    """There is a session, and the time of its last input is known."""
    UNREADABLE = "unreadable"
    """There is a session whose input cannot be read: counts as in use, and says so."""


@dataclass(frozen=True)
class Presence:
    """The user's session. Times are seconds since 1970 on this host."""

    kind: PresenceKind
    last_input_at: float = 0.0
    """Of a readable session."""
    locked: bool = False
    """The screen is locked: the session is not in use, whatever the mouse does."""
    fullscreen: bool = False
    """The window in front fills a screen (a film, a game, a talk)."""
    problem: str = ""
    """Why it is unreadable, as one sentence."""
    starting: bool = False
    """Unreadable only because it has not been read yet."""
    method: str = ""
    """How it is read, for the doctor: "X11", "GNOME", "Wayland", "Windows", "macOS"."""


NO_SESSION: Final = Presence(PresenceKind.NO_SESSION)


class PowerSource(StrEnum):
    """What feeds the machine."""

    MAINS = "mains"
    BATTERY = "battery"
    UPS = "ups"
    """A battery for power cuts: the mains are gone."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Power:
    """`percent`: charge of all the machine's own batteries together; None: it has none."""

    source: PowerSource
    percent: float | None = None


UNKNOWN_POWER: Final = Power(PowerSource.UNKNOWN)


@dataclass(frozen=True)
class Gpu:
    """One graphics processor; None where the driver does not report."""

    name: str
    others_percent: float | None
    """Load but for our own worker's."""
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    device: str = ""
    """Its name as a device (`core.devices`)."""
    celsius: float | None = None
    worker_bytes: int | None = None
    """Memory of it that our own worker holds."""


@dataclass(frozen=True)
class Readings:
    """One moment."""

    now: float
    """Seconds since 1970."""
    local_time: LocalTime = MONDAY_MIDNIGHT
    override: Override = NO_OVERRIDE
    device_pauses: tuple[tuple[str, Override], ...] = ()
    """The user's pauses of single devices, by their names."""
    hook: Override = NO_OVERRIDE
    """A pause that another program of the user's asked for."""
    rules: SignalRules = NO_RULES
    """The user's rules on signals."""
    signals: Mapping[str, SignalReading] = field(default_factory=dict)
    """What is known of each signal, by its name."""
    presence: Presence = NO_SESSION
    power: Power = UNKNOWN_POWER
    suspending: bool = False
    """The machine is about to sleep."""
    shutting_down: bool = False
    cpu_others_percent: float | None = None
    """Load of all other programs, of all processors together (0 to 100), over some seconds."""
    gpus: tuple[Gpu, ...] = ()
    hottest_celsius: float | None = None
    critical_headroom_celsius: float | None = None
    """How far the processor nearest to its driver's own critical temperature is below it."""
    memory_available_bytes: int | None = None
    memory_total_bytes: int | None = None
    worker_memory_bytes: int = 0
    """Resident memory of the worker; 0 without one."""
    free_disk_bytes: int = 2**62
    programs: frozenset[str] = frozenset()
    """Those of the user's chosen programs that run now."""
    metered: bool | None = None
    """The network counts bytes (a phone's hotspot)."""
    downloaded_today_bytes: int = 0
    uploaded_today_bytes: int = 0
