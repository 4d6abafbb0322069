"""The protocol's and the agent's words, as people read them."""

from __future__ import annotations

from typing import Final

from pleb_agent.translation.words import marked

__all__ = [
    "ACTIVITIES",
    "EVENTS",
    "KINDS",
    "LEVELS",
    "METRICS",
    "STATES",
]

ACTIVITIES: Final[dict[str, str]] = {
    "working": marked("Training"),
    "idle": marked("Idle"),
    "paused": marked("Paused"),
    "offline": marked("Offline"),
    "problem": marked("Needs you"),
    "stopped": marked("Stopped"),
}
KINDS: Final[dict[str, str]] = {
    "train": marked("Training a unit"),
    "evaluate": marked("Measuring the model"),
    "calibrate": marked("Getting to know this PC"),
}
STATES: Final[dict[str, str]] = {
    "received": marked("waits for its turn"),
    "computed": marked("is computed and will be reported"),
    "reported": marked("was reported"),
    "uploading": marked("is being sent"),
}
EVENTS: Final[dict[str, str]] = {
    "run": marked("Working"),
    "pause": marked("Paused"),
    "stop": marked("Stopped"),
    "unit": marked("Unit"),
    "first_accepted": marked("First unit"),
    "attach": marked("Joined"),
    "detach": marked("Left"),
    "problem": marked("Problem"),
    "preferences": marked("Preferences"),
    "update": marked("Update"),
    "start": marked("Started"),
    "end": marked("Ended"),
}
LEVELS: Final[dict[str, str]] = {
    "debug": marked("Everything"),
    "info": marked("What happened"),
    "warning": marked("Warnings"),
    "error": marked("Errors"),
}
METRICS: Final[dict[str, str]] = {"accuracy": marked("accuracy"), "loss": marked("loss")}
"""Of a curve; projects may have others, which are shown with spaces for underscores."""
