"""Losses by step as the points of a small drawing."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HEIGHT", "WIDTH", "Sparkline", "sparkline"]

WIDTH: Final = 240
HEIGHT: Final = 48
_EDGE: Final = 3.0


@dataclass(frozen=True)
class Sparkline:
    """`points`: of an SVG polyline in a box of WIDTH x HEIGHT; `x`, `y`: the last one."""

    points: str
    x: float
    y: float
    first: float
    last: float


def sparkline(pairs: Sequence[tuple[int, float]]) -> Sparkline | None:
    """Return the drawing of (step, value); None if there are less than two finite values."""
    finite = [(step, value) for step, value in pairs if isfinite(value)]
    if len(finite) < 2:
        return None
    values = [value for _, value in finite]
    begin, end, low, high = finite[0][0], finite[-1][0], min(values), max(values)
    points = [
        (
            _EDGE + (WIDTH - 2 * _EDGE) * (step - begin) / ((end - begin) or 1),
            _EDGE + (HEIGHT - 2 * _EDGE) * (high - value) / ((high - low) or 1.0),
        )
        for step, value in finite
    ]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return Sparkline(text, round(x, 1), round(y, 1), values[0], values[-1])
