"""May the agent work now? One pure, ordered list of rules; the first that objects decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pleb_agent.core.preferences import Preferences

__all__ = ["RULES", "Action", "Decision", "Readings", "decide"]


class Action(StrEnum):
    """What the worker may do."""

    RUN = "run"
    PAUSE = "pause"
    """Hold still, stay in memory."""
    STOP = "stop"
    """Write a checkpoint, leave memory."""


@dataclass(frozen=True)
class Readings:
    """What the sensors say at one moment."""

    now: float
    paused: bool = False
    """The user paused the agent."""
    paused_until: float | None = None
    """When that pause ends by itself; None: when the user says so."""
    free_disk_bytes: int = 2**62


@dataclass(frozen=True)
class Decision:
    """The action, the sentence that explains it, and when to look again."""

    action: Action
    sentence: str
    look_again_seconds: float


Rule = Callable[[Readings, Preferences], Decision | None]

_DISK_LOOK_SECONDS: Final = 60.0
_USUAL_LOOK_SECONDS: Final = 60.0


def user_paused(readings: Readings, _: Preferences) -> Decision | None:
    """The user's pause comes first; a worker that pauses long leaves memory by itself."""
    if not readings.paused:
        return None
    until = readings.paused_until
    if until is None:
        return Decision(Action.PAUSE, "Paused by you, until you resume.", _USUAL_LOOK_SECONDS)
    left = until - readings.now
    if left <= 0:
        return None
    sentence = f"Paused by you for {max(1, round(left / 60))} more min."
    return Decision(Action.PAUSE, sentence, left)


def disk_full(readings: Readings, preferences: Preferences) -> Decision | None:
    """A full disk belongs to the user: stop before it is."""
    if readings.free_disk_bytes >= preferences.keep_free_bytes:
        return None
    free = readings.free_disk_bytes / 2**30
    keep = preferences.keep_free_bytes / 2**30
    sentence = f"Only {free:.1f} GiB of disk are free; {keep:.1f} GiB are left alone."
    return Decision(Action.STOP, sentence, _DISK_LOOK_SECONDS)


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
    return Decision(Action.RUN, "Nothing speaks against working.", _USUAL_LOOK_SECONDS)
