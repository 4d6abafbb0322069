"""Which trials of a sweep go on: successive halving (Jamieson and Talwalkar 2016).

At each rung the trials that are left are compared by the holdout's value of one version, and the
best ones go on. A trial waits at the rung until all others that are left have come there.

- *What was decided stays.* A trial that is beyond a rung passes it, whoever comes later.
- *Nobody waits for what does not come.* A trial that is paused, archived or removed is left out;
  one that has reached its target or does not get better counts by its last value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pleb_shared.protocol.reasons import Reason, ReasonCode, because

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.holdout import Point
    from pleb_shared.protocol.project import Family

__all__ = ["Trial", "halved"]


class Trial(NamedTuple):
    """A trial that is neither paused nor archived."""

    project: str
    version: int
    """The newest one."""
    ended: bool
    """Whether it goes no further, for a reason of its own."""
    points: Sequence[Point]
    """Evaluated versions, oldest first; lower values are better."""


def halved(family: Family, project: str, trials: Sequence[Trial]) -> Reason | None:
    """Return why the trial `project` of a sweep gets no work now; None: it goes on."""
    left = {trial.project: trial for trial in trials}
    for rung in family.rungs:
        if project not in left or left[project].version < rung.version:
            return None
        values = {name: _value(trial, rung.version) for name, trial in left.items()}
        known = {name: value for name, value in values.items() if value is not None}
        passed = {name for name, trial in left.items() if trial.version > rung.version}
        if len(known) < len(values) and project not in passed:
            return because(
                ReasonCode.TRIALS_COMPARED, version=rung.version, count=min(rung.keep, len(left))
            )
        order = sorted(known, key=lambda name: (known[name], family.number_of(name)))
        best = {*order[: rung.keep], *passed}
        if project not in best:
            return because(
                ReasonCode.TRIAL_STOPPED, version=rung.version, count=min(rung.keep, len(left))
            )
        left = {name: left[name] for name in left if name in best}
    return None


def _value(trial: Trial, version: int) -> float | None:
    """Return the value by which a trial is compared at a rung; None: it is not known yet."""
    at = [point.value for point in trial.points if point.version == version]
    if at:
        return at[0]
    if trial.version > version:  # the evaluation was removed since
        return -math.inf
    earlier = [point.value for point in trial.points if point.version <= version]
    if trial.ended and trial.version < version:
        return earlier[-1] if earlier else math.inf
    return None
