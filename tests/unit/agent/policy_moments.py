"""Moments for tests of the policy: a desktop on which no rule objects to working."""

from __future__ import annotations

from dataclasses import replace

from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readiness import PolicyReason
from pleb_agent.core.readings import (
    Gpu,
    LocalTime,
    Power,
    PowerSource,
    Presence,
    PresenceKind,
    Readings,
)
from pleb_agent.core.schedule import DAY_MINUTES, WEEK_MINUTES
from pleb_agent.core.signals import Row, Signal, SignalReading, SignalRules, Test

GIB = 2**30
NOW = 1_700_000_040.0
"""A full minute; `clock` makes it Tuesday, 14:14."""
PREFERENCES = Preferences(use_gpu=True, hours="")
CARD = "rocm-0"


def clock(now: float) -> LocalTime:
    """Return the clock on the wall of a place at UTC-8."""
    minute = (int(now // 60) + 3 * DAY_MINUTES - 8 * 60) % WEEK_MINUTES  # 1970 began on a Thursday
    return LocalTime(minute // DAY_MINUTES, minute % DAY_MINUTES)


def someone(idle_seconds=3600.0, **changes) -> Presence:
    return Presence(PresenceKind.READABLE, last_input_at=NOW - idle_seconds, **changes)


def gpu(load) -> Gpu:
    return Gpu("Radeon", load, GIB, 8 * GIB, CARD, 50.0, GIB // 2)


FREE = Readings(
    now=NOW,
    local_time=clock(NOW),
    presence=someone(),
    power=Power(PowerSource.MAINS, 80.0),
    cpu_others_percent=3.0,
    gpus=(gpu(2.0),),
    hottest_celsius=55.0,
    memory_available_bytes=6 * GIB,
    memory_total_bytes=8 * GIB,
    worker_memory_bytes=GIB,
    free_disk_bytes=100 * GIB,
    metered=False,
)


def later(readings: Readings, seconds: float) -> Readings:
    """Return the same readings, of a later moment."""
    now = readings.now + seconds
    return replace(readings, now=now, local_time=clock(now))


def boosted(readings: Readings, seconds=3600.0) -> Readings:
    return replace(readings, override=Override(OverrideKind.BOOST, readings.now + seconds))


CHEAP = SignalRules(
    signals=(Signal(name="Price", address="/price", unit="€/kWh"),),
    rows=(Row("Price", Test.BELOW, 0.25),),
)

RANKS = [
    (PolicyReason.SHUTTING_DOWN, {"shutting_down": True}, {}),
    (PolicyReason.SUSPENDING, {"suspending": True}, {}),
    (PolicyReason.PAUSED_BY_USER, {"override": Override(OverrideKind.PAUSE, NOW + 600)}, {}),
    (PolicyReason.DISK_FULL, {"free_disk_bytes": GIB // 2}, {}),
    (PolicyReason.MEMORY_SHORT, {"memory_available_bytes": GIB // 8}, {}),
    (PolicyReason.TOO_HOT, {"hottest_celsius": 91.0}, {}),
    (PolicyReason.ON_BATTERY, {"power": Power(PowerSource.BATTERY, 90.0)}, {}),
    (
        PolicyReason.PAUSED_BY_PROGRAM,
        {"hook": Override(OverrideKind.PAUSE, NOW + 600, "guests")},
        {},
    ),
    (PolicyReason.OUTSIDE_HOURS, {}, {"hours": "tue 15:00-18:00"}),
    (PolicyReason.SIGNALS, {"rules": CHEAP, "signals": {"Price": SignalReading(0.31, NOW)}}, {}),
    (PolicyReason.PROGRAM_RUNS, {"programs": frozenset({"steam"})}, {}),
    (PolicyReason.FULLSCREEN, {"presence": someone(fullscreen=True)}, {}),
    (PolicyReason.IN_USE, {"presence": someone(60.0)}, {}),
    (PolicyReason.CPU_BUSY, {"cpu_others_percent": 61.0}, {}),
]
"""Reasons in order of rank: what must be read, and preferred, for them to be the one."""
