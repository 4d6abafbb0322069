"""How far a project is: by its target if it has one, else by its versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pleb_coordinator.web_app.words import number, percent

if TYPE_CHECKING:
    from pleb_shared.protocol.project import Target
    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["Progress", "progress_of"]


@dataclass(frozen=True)
class Progress:
    """Versions made of those planned, and how the target stands."""

    share: float
    """Of the planned versions, 0 to 1."""
    aim: str
    """The target in short; empty: there is none."""
    sentence: str
    target_reached: bool


def progress_of(status: ProjectStatus) -> Progress:
    """Return how far the project is."""
    share = status.version / max(1, status.versions_planned)
    target = status.target
    if target is None:
        said = f"{percent(share)} of the planned versions are made."
        return Progress(share, "", said, target_reached=False)
    aim = f"{target.metric} {'≥' if target.direction == 'at_least' else '≤'} {number(target.value)}"
    if status.target_reached_at_version is not None:
        said = f"Target reached at version {status.target_reached_at_version}: {aim}."
        return Progress(share, aim, said, target_reached=True)
    said = f"Target: {aim}. {_now(status, target)}"
    return Progress(share, aim, said, target_reached=False)


def _now(status: ProjectStatus, target: Target) -> str:
    value = status.metrics.get(target.metric)
    if value is None:
        return "Not measured yet."
    return f"Now {number(value)} (version {status.metrics_version})."
