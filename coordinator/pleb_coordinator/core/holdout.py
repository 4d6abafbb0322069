"""When the model has become so much worse on the holdout that an earlier version is restored.

Values are evaluations of trusted hosts: the project's target metric, else the loss. What counts is
the share of the gain that is lost. The gain is what training has won since the first evaluated
version, so the rule reads the same for a loss, an accuracy, or a likelihood of any scale:

    lost = (value - best) / (first - best)        lower is better; best is smoothed over three

- *Noise does not trigger it.* Each of the last three evaluations must have lost more than the
  project allows, and the gain must be larger than chance makes it: four times an ordinary step
  between evaluations, times the root of their number, as a random walk grows.
- *It never loops.* After a restore only evaluations made since then can ask for another one, and
  twice as many of them must agree each time, until a better version than before has been reached.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.records import Evaluation, VersionRestore
    from pleb_shared.protocol.project import Target

__all__ = ["Point", "last_good", "points_of", "version_to_restore"]

_AGREEING: Final = 3
"""Evaluations in a row that must be bad."""
_MOST_DOUBLINGS: Final = 5
_FEWEST_EARLIER: Final = 4
"""Evaluations before those: fewer do not show what an ordinary step between two is."""
_GAIN_OVER_NOISE: Final = 4.0
_GOOD_SHARE: Final = 0.25
"""Of what is allowed: a version that has lost no more than this is good. The best one itself may
owe its rank to noise, and going back to it would throw away good versions."""


class Point(NamedTuple):
    """An evaluated version; a lower value is better, infinity is worst."""

    version: int
    value: float


def points_of(
    evaluations: Sequence[Evaluation], restores: Sequence[VersionRestore], target: Target | None
) -> list[Point]:
    """Return the evaluations that the newest version descends from, oldest first.

    Args:
        evaluations: of one epoch, oldest version first.
        restores: of the same epoch, oldest first; what each took back is left out.
        target: names the metric; None: the loss.
    """
    name = target.metric if target else "loss"
    sign = -1.0 if target and target.direction == "at_least" else 1.0
    points = [
        Point(found.version, sign * value if math.isfinite(value) else math.inf)
        for found in evaluations
        if (value := found.metrics.get(name)) is not None
    ]
    for restore in restores:
        points = [p for p in points if not restore.restores < p.version < restore.number]
    return points


def version_to_restore(
    points: Sequence[Point], restores: Sequence[VersionRestore], allowed: float
) -> int | None:
    """Return the version to restore, or None while there is no reason.

    Args:
        points: as `points_of` returns them.
        restores: of the same epoch, oldest first.
        allowed: share of the gain that may be lost; 0: all of it.
    """
    if not allowed:
        return None
    latest = restores[-1].number if restores else 0
    fresh = [p for p in points if p.version >= latest]
    best_at = min(points, key=lambda p: p.value).version if points else 0
    in_vain = sum(restore.number > best_at for restore in restores)
    agreeing = _AGREEING * 2 ** min(in_vain, _MOST_DOUBLINGS)
    window = fresh[-agreeing:]
    earlier = points[: len(points) - len(window)]
    if len(window) < agreeing or len(earlier) < _FEWEST_EARLIER:
        return None
    best, gain = _best_and_gain(earlier)
    steps = [abs(b.value - a.value) for a, b in pairwise(_finite(earlier))]
    if gain <= _GAIN_OVER_NOISE * median(steps or [math.inf]) * math.sqrt(len(earlier)):
        return None
    if min(p.value for p in window) <= best + allowed * gain:
        return None
    return _newest_good(earlier, allowed)


def last_good(points: Sequence[Point], allowed: float) -> int | None:
    """Return the version that an operator means by the last good one; None: none is known.

    That is the newest good version before the newest evaluated one.
    """
    earlier = _finite(points[:-1])
    return _newest_good(earlier, allowed or 1.0) if earlier else None


def _newest_good(points: Sequence[Point], allowed: float) -> int:
    best, gain = _best_and_gain(points)
    limit = best + _GOOD_SHARE * allowed * max(gain, 0.0)
    return max(p.version for p in points if p.value <= limit)


def _best_and_gain(points: Sequence[Point]) -> tuple[float, float]:
    """Return the lowest median of three neighbours, and how much lower it is than the first."""
    values = [p.value for p in _finite(points)] or [math.inf]
    smooth = [median(values[max(0, i - 1) : i + 2]) for i in range(len(values))]
    best = min(smooth) if len(values) > 2 else min(values)
    return best, values[0] - best


def _finite(points: Sequence[Point]) -> list[Point]:
    return [p for p in points if math.isfinite(p.value)]
