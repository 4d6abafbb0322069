"""The states of a project, as a table. What is not in the table changes nothing.

active ──ended─────> finished ──continued──> active
  │                     │
  ├──paused──> paused <─┤       paused, archived ──resumed──> active
  └──archived─> archived <── (from any)           moved <──moved── (from any; for good)
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import ProjectState

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROJECT_MOVES", "ProjectEvent"]


class ProjectEvent(StrEnum):
    """What can happen to a project. Its researcher or the operator pauses, resumes, archives."""

    PAUSED = "paused"
    RESUMED = "resumed"
    ARCHIVED = "archived"
    ENDED = "ended"
    """Its last version was made, its target reached, or nothing got better any more."""
    MOVED = "moved"
    """Its root key has handed it to another coordinator."""
    CONTINUED = "continued"
    """What ended it does not hold any more: there are more versions, or a new epoch."""


PROJECT_MOVES: Final[Mapping[tuple[ProjectState, ProjectEvent], ProjectState]] = {
    (ProjectState.ACTIVE, ProjectEvent.PAUSED): ProjectState.PAUSED,
    (ProjectState.ACTIVE, ProjectEvent.ARCHIVED): ProjectState.ARCHIVED,
    (ProjectState.ACTIVE, ProjectEvent.ENDED): ProjectState.FINISHED,
    (ProjectState.FINISHED, ProjectEvent.CONTINUED): ProjectState.ACTIVE,
    (ProjectState.FINISHED, ProjectEvent.PAUSED): ProjectState.PAUSED,
    (ProjectState.FINISHED, ProjectEvent.ARCHIVED): ProjectState.ARCHIVED,
    (ProjectState.PAUSED, ProjectEvent.RESUMED): ProjectState.ACTIVE,
    (ProjectState.PAUSED, ProjectEvent.ARCHIVED): ProjectState.ARCHIVED,
    (ProjectState.ARCHIVED, ProjectEvent.RESUMED): ProjectState.ACTIVE,
    (ProjectState.ACTIVE, ProjectEvent.MOVED): ProjectState.MOVED,
    (ProjectState.FINISHED, ProjectEvent.MOVED): ProjectState.MOVED,
    (ProjectState.PAUSED, ProjectEvent.MOVED): ProjectState.MOVED,
    (ProjectState.ARCHIVED, ProjectEvent.MOVED): ProjectState.MOVED,
}
