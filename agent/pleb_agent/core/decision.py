"""What the policy says: an action, the reason, a sentence, limits, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pleb_agent.core.sentence import Sentence

__all__ = ["USUAL_LOOK_SECONDS", "Action", "Decision", "Limits", "Objection", "Reason"]

USUAL_LOOK_SECONDS: Final = 60.0
"""How often to look where nothing changes by time alone, in case a sensor does not tell."""


class Action(StrEnum):
    """What the worker may do."""

    RUN = "run"
    PAUSE = "pause"
    """Hold still, stay in memory."""
    STOP = "stop"
    """Write a checkpoint, leave memory."""


class Reason(StrEnum):
    """Which rule decided: for the tray's icon, the history and tests. In order of rank."""

    READY = "ready"
    STARTING = "starting"
    SHUTTING_DOWN = "shutting_down"
    SUSPENDING = "suspending"
    PAUSED_BY_USER = "paused_by_user"
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
    """The action, the sentence that explains it, and when to look again.

    `look_again_seconds`: before that the answer changes by new readings only, not by time.
    """

    action: Action
    sentence: Sentence
    look_again_seconds: float
    reason: Reason = Reason.READY
    limits: Limits = field(default_factory=Limits)
    """Of a running worker."""


@dataclass(frozen=True)
class Objection:
    """What a rule has against working. `look_again_seconds` is as in `Decision`."""

    reason: Reason
    sentence: Sentence
    look_again_seconds: float = USUAL_LOOK_SECONDS
    action: Action = Action.PAUSE
    comes_and_goes: bool = False
    """It may vanish and return within seconds: let things settle before resuming."""
