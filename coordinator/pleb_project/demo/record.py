"""The coordinator's record of what went into the model: nothing here is assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pleb_project.processes.fleet import Fleet

__all__ = ["contributions"]


def contributions(fleet: Fleet, project: str) -> dict[str, int]:
    """Return how many results of each host are in the project's versions, by the host's name."""
    raise NotImplementedError
