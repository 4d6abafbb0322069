"""How much of a project a check runs: little for any model, and bounded for slow ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CPU_SECONDS", "Effort", "effort_for"]

CPU_SECONDS: Final = 120.0
"""Of processor time that the runs of a check take by default; what is not a step is not counted."""
RUNS: Final = 3
"""Ways in which the same unit is run, at version 0 and again after some training."""

_STEPS_OF_UNIT: Final = 25
"""Honest results drift apart from the first step on; more steps of a unit show little more."""
_UNITS: Final = 3
_STEPS_TO_LEARN: Final = 60
"""Batches differ in their loss: with fewer steps, a fall might be chance."""
_LEAST_STEPS: Final = 2


@dataclass(frozen=True)
class Effort:
    """What a check runs."""

    steps: int
    """Of each unit whose results are compared."""
    units: int
    """Trained in turn, each of so many steps."""
    again: bool
    """Whether a unit is compared again after these."""
    estimates: tuple[str, ...]
    """What is estimated instead of measured, as sentences."""


def effort_for(seconds_per_step: float, local_steps: int, cpu_seconds: float) -> Effort:
    """Return what a check runs so that its steps take at most about `cpu_seconds`."""
    most = int(cpu_seconds / max(seconds_per_step, 1e-6))
    steps = min(local_steps, _STEPS_OF_UNIT)
    units = max(_UNITS, -(-_STEPS_TO_LEARN // steps))
    if (2 * RUNS + units) * steps <= most:
        return Effort(steps, units, again=True, estimates=())
    minutes = f"{cpu_seconds / 60:.2g} CPU minutes"
    estimates = []
    # Half for the two comparisons, half for learning; if that is too little, one comparison.
    again = most >= 4 * RUNS * _LEAST_STEPS
    steps = max(_LEAST_STEPS, min(steps, most // (4 * RUNS if again else 2 * RUNS)))
    steps = min(steps, local_steps)
    units = max(1, min(units, (most - (1 + again) * RUNS * steps) // steps))
    if steps < min(local_steps, _STEPS_OF_UNIT):
        estimates.append(
            f"Results were compared after {steps} of {local_steps} steps, for {minutes}: those of "
            "whole units may differ more."
        )
    if units * steps < _STEPS_TO_LEARN:
        estimates.append(
            f"The loss was followed for {units * steps} steps only, so whether it falls was not "
            "measured."
        )
    if not again:
        estimates.append("How far apart results are after some training was not measured.")
    return Effort(steps, units, again=again, estimates=tuple(estimates))
