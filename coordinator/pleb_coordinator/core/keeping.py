"""How much of which versions is kept, so that a project's files stay bounded however long it runs.

The newest versions are kept exactly. Beyond the bounds the oldest lose first the results that they
were made of, then their tensors; milestones, spread evenly over the epoch, keep those.

    0 ........ 4096 ........ 8192 ... 9000 --------- 9950 ===== 9999
    milestone  milestone     milestone     readable        exact
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pleb_coordinator.core.records import Kept

if TYPE_CHECKING:
    from pleb_coordinator.core.records import VersionLoad

__all__ = ["Bounds", "curve_step", "is_milestone", "milestone_distance", "to_reduce"]


@dataclass(frozen=True)
class Bounds:
    """The most that a project's versions may take; 0: any number."""

    versions: int
    """That are exact, or readable, beside the milestones."""
    delta_bytes: int
    """Of the results that versions were made of."""
    blob_bytes: int
    """Of the files that versions are built from, beside the milestones."""


def to_reduce(load: VersionLoad, bounds: Bounds) -> tuple[Kept, ...]:
    """Return of which versions the oldest one has to lose something; empty: none has to."""
    if _over(load.exact, bounds.versions) or _over(load.delta_bytes, bounds.delta_bytes):
        return (Kept.EXACT,)
    if _over(load.readable, bounds.versions) or _over(load.blob_bytes, bounds.blob_bytes):
        return (Kept.READABLE, Kept.EXACT)
    return ()


def milestone_distance(newest: int, interval: int, most: int) -> int:
    """Return how far apart milestones are, of which there are at most `most` after version 0.

    It doubles now and then, so that of the milestones there are every second one stays.

    Args:
        newest: the epoch's newest version.
        interval: how far apart snapshots are, at least 1.
        most: 0: every snapshot is a milestone.
    """
    distance = interval
    while most and newest // distance > most:
        distance *= 2
    return distance


def is_milestone(number: int, newest: int, interval: int, most: int) -> bool:
    """Whether a version outlives its neighbours, as `milestone_distance`."""
    return number % milestone_distance(newest, interval, most) == 0


def curve_step(newest: int, most: int = 1000) -> int:
    """Return how far apart evaluations of listed versions are, so that `most` are left of them."""
    return milestone_distance(newest, 1, most)


def _over(found: int, most: int) -> bool:
    return bool(most) and found > most
