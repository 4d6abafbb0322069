"""Deltas of real training: a linear classifier of 48 features into 20 classes, in numpy.

Each unit starts from the version that the coordinator has really made and takes plain SGD steps on
its own shard, so norms, cosines and losses are those of a model that learns, and shrink as it
does. What rounding adds in hosts of another determinism class is relative to the parameters, as in
deep networks, not to the delta: near convergence it is large beside a delta that is small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_coordinator.simulation.deltas import Deltas, Floats

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pleb_shared.protocol.unit import Unit

__all__ = ["TrainedDeltas"]

_FEATURES: Final = 48
_CLASSES: Final = 20
_EXAMPLES: Final = 256
"""Of a shard."""
_BATCH: Final = 16
_STEPS: Final = 60
_RATE: Final = 0.1
_OVERLAP: Final = 1.5
"""Standard deviation of the features; the classes' centres have 1, so they overlap a little."""
_ROUNDING: Final = np.float32(2e-5)
"""Of the result of all steps, relative to each parameter."""
_OWN_CLASSES: Final = 0.3
"""Part of a shard's examples that come from a few classes of its own."""


@dataclass
class TrainedDeltas(Deltas):
    """Trains a small model on made-up data."""

    version: Callable[[int], Floats] = field(kw_only=True)
    """The parameters [numbers] of a version."""
    _shards: dict[int, tuple[Floats, NDArray[np.int64]]] = field(default_factory=dict, init=False)
    _losses: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)

    def losses(self, unit: Unit) -> tuple[float, float]:
        """Return the losses that training has shown; plausible ones for a unit of nobody's."""
        return self._losses.get(unit.seed) or super().losses(unit)

    def _made(self, unit: Unit, determinism_class: int) -> Floats:
        start = self.version(unit.version)
        features, labels = self._shard(unit.shards.first)
        weights = start.reshape(_FEATURES, _CLASSES).copy()
        batches = np.random.default_rng(unit.seed)
        losses = []
        for _ in range(min(_STEPS, unit.local_steps)):
            chosen = batches.integers(_EXAMPLES, size=_BATCH)
            x, y = features[chosen], labels[chosen]
            logits = x @ weights
            logits -= logits.max(axis=1, keepdims=True)
            odds = np.exp(logits)
            odds /= odds.sum(axis=1, keepdims=True)
            losses.append(-float(np.log(odds[np.arange(_BATCH), y] + 1e-9).mean()))
            odds[np.arange(_BATCH), y] -= 1
            weights -= np.float32(_RATE / _BATCH) * (x.T @ odds)
        self._losses[unit.seed] = (losses[0], losses[-1])
        delta = start - weights.reshape(-1)
        if determinism_class:
            rounding = np.random.default_rng((unit.seed, determinism_class))
            delta += _ROUNDING * np.abs(start) * rounding.standard_normal(start.size, np.float32)
        return delta

    def _shard(self, number: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return features [examples, features] and labels [examples]."""
        if number not in self._shards:
            generator = np.random.default_rng((self.seed, 7, number))
            labels = generator.integers(_CLASSES, size=_EXAMPLES)
            own = generator.random(_EXAMPLES) < _OWN_CLASSES
            labels[own] = generator.integers(3, size=int(own.sum())) + number % (_CLASSES - 2)
            self._shards[number] = (self._features(labels, generator), labels)
        return self._shards[number]

    def _features(self, labels: NDArray[np.int64], generator: np.random.Generator) -> Floats:
        centres = np.random.default_rng((self.seed, 8)).standard_normal((_CLASSES, _FEATURES))
        noise = _OVERLAP * generator.standard_normal((len(labels), _FEATURES))
        return (centres[labels] + noise).astype(np.float32)

    def accuracy(self, version: int) -> float:
        """Return the share of new examples that a version classifies rightly."""
        generator = np.random.default_rng((self.seed, 9))
        labels = generator.integers(_CLASSES, size=4 * _EXAMPLES)
        weights = self.version(version).reshape(_FEATURES, _CLASSES)
        found = (self._features(labels, generator) @ weights).argmax(axis=1)
        return float((found == labels).mean())
