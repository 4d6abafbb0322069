"""What PCs compute, made up so that it looks like training.

The delta of an honest unit, a pure function of the unit and the determinism class:

    s(version) u(seed) [ a g(version) + b h(shard) + c n(seed) ] (1 + e d(class, seed))

g is the direction in which the whole round descends, h what a shard adds, n the noise of batches;
each of them has the norm 1 before the weights a, b, c. u is log-normal, since norms of honest
deltas differ; s shrinks as training goes on. The last factor is rounding: the hosts of one class
agree to the bit; those of two lie about e apart before the codec, within the tolerance after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pleb_coordinator.simulation.project import PARAMETERS
from pleb_shared.protocol.project import elements
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_shared.protocol.unit import Unit
    from pleb_shared.tensors.format import DeltaFormat
    from pleb_shared.tensors.layout import Tensors

__all__ = ["Deltas", "Floats", "as_tensors"]

Floats = NDArray[np.float32]

COMMON: Final = 0.5
BY_SHARD: Final = 0.3
NOISE: Final = 0.8
"""Weights a, b, c: two honest deltas of a round have a cosine of about .25."""
NORM_SPREAD: Final = 0.1
"""Of ln u."""
ROUNDING: Final = 3e-4
"""e, relative to each number."""
_FIRST_NORM: Final = 0.1
_HALVED_AFTER: Final = 100.0
"""Versions after which s is half of what it was at first."""
_GROWTH: Final = 0.65
"""Power of the local steps with which the norm grows."""
_COUNT: Final = sum(elements(spec) for spec in PARAMETERS)


@dataclass
class Deltas:
    """Makes honest deltas, and keeps those of the newest version: copies of a unit share them."""

    encoding: DeltaFormat
    exact: DeltaFormat
    """Of calibrations, which travel unquantised."""
    seed: int
    local_steps: int = 0
    """Of a whole unit; 0: all units are whole."""
    _version: int = field(default=-1, init=False)
    _kept: dict[tuple[int, int], Floats] = field(default_factory=dict, init=False)
    _directions: dict[tuple[str, int], Floats] = field(default_factory=dict, init=False)

    def honest(self, unit: Unit, determinism_class: int) -> Floats:
        """Return the delta [numbers] that an honest host of that class finds."""
        if unit.version != self._version:
            self._version = unit.version
            self._kept.clear()
        key = (unit.seed, determinism_class)
        if key not in self._kept:
            self._kept[key] = self._made(unit, determinism_class)
        return self._kept[key]

    def of_another(self, unit: Unit, determinism_class: int) -> Floats:
        """Return the honest delta [numbers] of a unit that the coordinator has not planned."""
        return self._made(unit, determinism_class)

    def _made(self, unit: Unit, determinism_class: int) -> Floats:
        own = np.random.default_rng(unit.seed)
        values = (
            COMMON * self.direction("version", unit.version)
            + BY_SHARD * self.direction("shard", unit.shards.first)
            + NOISE * unit_vector(own)
        )
        scale = _FIRST_NORM / (1 + unit.version / _HALVED_AFTER)
        if self.local_steps and unit.kind == UnitKind.TRAIN:
            scale *= (unit.local_steps / self.local_steps) ** _GROWTH
        values = values * np.float32(scale * math.exp(NORM_SPREAD * own.normal()))
        if determinism_class:
            rounding = np.random.default_rng((unit.seed, determinism_class))
            values = values * (1 + ROUNDING * rounding.standard_normal(_COUNT, np.float32))
        return np.asarray(values, np.float32)

    def direction(self, kind: str, number: int) -> Floats:
        """Return a fixed random direction [numbers] of norm 1."""
        key = (kind, number)
        if key not in self._directions:
            generator = np.random.default_rng((self.seed, len(kind), number))
            self._directions[key] = unit_vector(generator)
        return self._directions[key]

    def losses(self, unit: Unit) -> tuple[float, float]:
        """Return a plausible training loss at the first and the last step of a unit."""
        first = 0.2 + 2.0 / (1 + unit.version / 20)
        spread = 1 + 0.05 * math.sin(unit.seed % 1000)
        return first * spread, 0.97 * first * spread

    def accuracy(self, version: int) -> float | None:
        """Return how good a version is, where there is something to learn."""

    def coded(self, delta: Floats) -> Tensors:
        """Return a delta [numbers] as it is decoded from the codec of training results."""
        return self.encoding.decode(self.encoding.encode(as_tensors(delta)))

    def encode(self, unit: Unit, delta: Floats) -> bytes:
        """Return the bytes that a host sends for `delta` [numbers]."""
        encoding = self.exact if unit.kind == UnitKind.CALIBRATE else self.encoding
        return encoding.encode(as_tensors(delta))


def unit_vector(generator: np.random.Generator) -> Floats:
    """Return a random direction [numbers] of norm 1."""
    return generator.standard_normal(_COUNT, np.float32) / np.float32(math.sqrt(_COUNT))


def as_tensors(delta: Floats) -> Tensors:
    """Return a delta [numbers] as the model's tensors."""
    tensors: Tensors = {}
    start = 0
    for spec in PARAMETERS:
        end = start + elements(spec)
        tensors[spec.name] = delta[start:end].reshape(spec.shape)
        start = end
    return tensors
