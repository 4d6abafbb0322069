"""From distances between honest runs to the tolerance.

Honest runs of one unit with different threads and instruction sets differ a little, at version 0
and after some training; a cheat who adds 1 % of noise to a result must still stand out from them.
So the ceiling is half the distance that such noise makes, and the tolerance is a multiple of the
honest distance below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_shared.tensors.distance import distances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_shared.tensors.format import DeltaFormat
    from pleb_shared.tensors.layout import Tensors

__all__ = [
    "Tolerance",
    "choose_tolerance",
    "encoded_distances",
    "noise_distance",
]

SAFETY_FACTOR: Final = 4.0
"""The tolerance is this many times the largest distance between honest runs."""
NOISE: Final = 0.01
_NOISE_TRIALS: Final = 5
_FLOOR_SHARE: Final = 0.5
"""The tolerance is at least this share of the ceiling, since three configurations are few."""


@dataclass(frozen=True)
class Tolerance:
    """`honest`, `later` and `noise` are the measured distances."""

    tolerance: float
    ceiling: float
    honest: float
    later: float
    """What `honest` is after some training."""
    noise: float
    separates: bool
    """False: honest runs differ as much as a cheat's would; such a project cannot be verified."""
    tight: bool
    """The safety factor does not fit below the ceiling."""
    drifts: bool
    """Honest runs are farther apart than the ceiling once the model has trained a little."""


def encoded_distances(
    a: Tensors, b: Tensors, encoding: DeltaFormat, weights: Sequence[float] = ()
) -> dict[str, float]:
    """Return the distance of every tensor between two deltas after both have been encoded.

    `a` and `b` have the shapes of the model's specs; `weights` are as in `distances`.
    """
    x, y = encoding.decode(encoding.encode(a)), encoding.decode(encoding.encode(b))
    return distances(x, y, encoding, weights)


def noise_distance(delta: Tensors, encoding: DeltaFormat) -> float:
    """Return the least distance, over a few draws, that 1 % of noise makes to `delta`.

    `delta` has the shapes of the model's specs. The noise is Gaussian with 1 % of each parameter's
    root mean square.
    """
    generator = np.random.Generator(np.random.Philox(0))
    found = []
    for _ in range(_NOISE_TRIALS):
        noisy = dict(delta)
        for spec in encoding.model.parameters:
            values = delta[spec.name]
            scale = NOISE * float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
            noise = generator.standard_normal(values.shape, np.float32) * np.float32(scale)
            noisy[spec.name] = (values + noise).astype(np.float32)
        found.append(max(encoded_distances(delta, noisy, encoding).values()))
    return min(found)


def choose_tolerance(honest: float, noise: float, later: float) -> Tolerance:
    """Return the tolerance for the largest honest distance and the one that noise makes.

    `honest` was measured from version 0, `later` after some training: it may raise the tolerance,
    but not refuse the project. How far apart honest PCs are goes up and down while a model learns.
    """
    ceiling = noise / 2
    most = max(honest, later)
    tolerance = min(max(SAFETY_FACTOR * most, _FLOOR_SHARE * ceiling), ceiling)
    return Tolerance(
        tolerance=tolerance,
        ceiling=ceiling,
        honest=honest,
        later=later,
        noise=noise,
        separates=honest < ceiling,
        tight=most * SAFETY_FACTOR > ceiling,
        drifts=later >= ceiling,
    )
