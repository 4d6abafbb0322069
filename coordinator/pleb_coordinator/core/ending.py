"""When training is over, which version is the best one, and whether the target is reached.

A version counts as evaluated once a trusted host has measured it on the holdout. What a later step
back has taken away is left out: `holdout.points_of`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pleb_shared.protocol.reasons import Reason, ReasonCode, because

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.holdout import Point
    from pleb_shared.protocol.project import ProjectMetadata, Target

__all__ = ["best_version", "ending", "reached_at"]


def best_version(points: Sequence[Point]) -> int | None:
    """Return the first version with the best value; None: none was evaluated."""
    finite = [point for point in points if math.isfinite(point.value)]
    return min(finite, key=lambda point: (point.value, point.version)).version if finite else None


def reached_at(points: Sequence[Point], target: Target | None) -> int | None:
    """Return the first version that reaches the target; None: none does, or there is no target."""
    if target is None:
        return None
    limit = -target.value if target.direction == "at_least" else target.value
    return next((point.version for point in points if point.value <= limit), None)


def ending(
    metadata: ProjectMetadata, version: int, points: Sequence[Point], *, extended: bool = False
) -> Reason | None:
    """Return why training is over after `version`, the newest one; None: it goes on.

    `points`: the evaluations that it descends from, oldest first. An `extended` project goes on to
    its last version, whatever its target says.
    """
    target = None if extended else metadata.target
    if target is not None and target.stop_at_target:
        reached = reached_at(points, target)
        if reached is not None:
            return because(ReasonCode.TARGET_REACHED, version=reached)
    if target is not None and target.patience:
        best = best_version(points)
        if best is not None and sum(p.version > best for p in points) >= target.patience:
            return because(ReasonCode.NOTHING_BETTER, version=best, count=target.patience)
    if version >= metadata.training.versions:
        return because(ReasonCode.LAST_VERSION_REACHED, version=version)
    return None
