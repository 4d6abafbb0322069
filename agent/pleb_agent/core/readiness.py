"""May the agent work now? One pure, ordered list of rules; the first that objects decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import Readings
from pleb_agent.core.sentence import Sentence, say
from pleb_agent.core.wish import WishKind

__all__ = ["RULES", "Action", "Decision", "Limits", "Reason", "decide"]


class Action(StrEnum):
    """What the worker may do."""

    RUN = "run"
    PAUSE = "pause"
    """Hold still, stay in memory."""
    STOP = "stop"
    """Write a checkpoint, leave memory."""


class Reason(StrEnum):
    """Which rule decided: for the tray's icon, the history and tests."""

    READY = "ready"
    STARTING = "starting"
    PAUSED_BY_USER = "paused_by_user"
    SHUTTING_DOWN = "shutting_down"
    SUSPENDING = "suspending"
    DISK_FULL = "disk_full"
    MEMORY_SHORT = "memory_short"
    TOO_HOT = "too_hot"
    ON_BATTERY = "on_battery"
    OUTSIDE_HOURS = "outside_hours"
    PROGRAM_RUNS = "program_runs"
    FULLSCREEN = "fullscreen"
    IN_USE = "in_use"
    INPUT_UNREADABLE = "input_unreadable"
    CPU_BUSY = "cpu_busy"
    GPU_BUSY = "gpu_busy"
    SETTLING = "settling"
    """The last objection has just gone: wait a little before resuming."""


@dataclass(frozen=True)
class Limits:
    """How much a running worker may take now."""

    cpu_percent: int = 100
    """Of the time of its cores."""
    memory_bytes: int | None = None
    """None: what it was started with."""
    gpu_percent: int = 100


@dataclass(frozen=True)
class Decision:
    """The action, the sentence that explains it, and when to look again."""

    action: Action
    sentence: Sentence
    look_again_seconds: float
    reason: Reason = Reason.READY
    limits: Limits = field(default_factory=Limits)


Rule = Callable[[Readings, Preferences], Decision | None]

_DISK_LOOK_SECONDS: Final = 60.0
_USUAL_LOOK_SECONDS: Final = 60.0


def user_paused(readings: Readings, _: Preferences) -> Decision | None:
    """The user's pause comes first; a worker that pauses long leaves memory by itself."""
    if not readings.wish.holds(WishKind.PAUSE, readings.now):
        return None
    until = readings.wish.until
    if until is None:
        sentence, left = say("Paused by you, until you resume."), _USUAL_LOOK_SECONDS
    else:
        left = until - readings.now
        sentence = say("Paused by you for {minutes} more min.", minutes=max(1, round(left / 60)))
    return Decision(Action.PAUSE, sentence, left, Reason.PAUSED_BY_USER)


def disk_full(readings: Readings, preferences: Preferences) -> Decision | None:
    """A full disk belongs to the user: stop before it is."""
    if readings.free_disk_bytes >= preferences.keep_free_bytes:
        return None
    sentence = say(
        "Only {free} GiB of disk are free; {keep} GiB are left alone.",
        free=f"{readings.free_disk_bytes / 2**30:.1f}",
        keep=f"{preferences.keep_free_bytes / 2**30:.1f}",
    )
    return Decision(Action.STOP, sentence, _DISK_LOOK_SECONDS, Reason.DISK_FULL)


RULES: Final[tuple[Rule, ...]] = (user_paused, disk_full)
"""In order of rank. The desktop's rules (battery, user present, full screen) come between."""


def decide(
    readings: Readings, preferences: Preferences, rules: tuple[Rule, ...] = RULES
) -> Decision:
    """Return the first objection, or leave to run."""
    for rule in rules:
        objection = rule(readings, preferences)
        if objection is not None:
            return objection
    return Decision(Action.RUN, say("Nothing speaks against working."), _USUAL_LOOK_SECONDS)
