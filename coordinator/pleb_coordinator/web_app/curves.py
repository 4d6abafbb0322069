"""The curves of a family's members, as an SVG: one line for each, the best one in colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pleb_shared.protocol.status import FamilyStatus

__all__ = ["HEIGHT", "WIDTH", "Curve", "Curves", "curves_of"]

WIDTH: Final = 720
HEIGHT: Final = 260
_LEFT: Final = 56
_BOTTOM: Final = 24
_TOP: Final = 8
_RIGHT: Final = 12


@dataclass(frozen=True)
class Curve:
    """A member's line: the points of a polyline, and the last value."""

    project: str
    points: str
    last: float
    best: bool


@dataclass(frozen=True)
class Curves:
    """All lines, and the labels of the axes with their places."""

    metric: str
    lines: list[Curve]
    values: list[tuple[float, float]]
    """(y, value) of a few horizontal lines."""
    versions: list[tuple[float, int]]
    """(x, version) of both ends."""


def curves_of(family: FamilyStatus) -> Curves | None:
    """Return how the family's metric went on the holdout; None: nothing was evaluated yet."""
    series = {
        member.project: [
            (point.version, point.metrics[family.metric])
            for point in member.series
            if family.metric in point.metrics
        ]
        for member in family.members
    }
    points = [point for found in series.values() for point in found]
    if not points:
        return None
    last = max(1, *(version for version, _ in points))
    low, high = min(value for _, value in points), max(value for _, value in points)
    span = high - low or abs(high) or 1.0

    def x(version: int) -> float:
        return round(_LEFT + version / last * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / span * (HEIGHT - _TOP - _BOTTOM), 1)

    lines = [
        Curve(
            project,
            " ".join(f"{x(version)},{y(value)}" for version, value in found),
            found[-1][1],
            best=project == family.best_member,
        )
        for project, found in series.items()
        if found
    ]
    return Curves(
        metric=family.metric,
        lines=sorted(lines, key=lambda line: line.best),  # the best one is drawn over the others
        values=[(y(value), value) for value in (high, low + span / 2, low)],
        versions=[(x(0), 0), (x(last), last)],
    )
