"""K encoded deltas become one g that hides what any one of them says.

    g = (sum_k min(1, w_k / w) min(1, C / |d_k|) d_k + z C n) / U

C and z are the project's clip_norm and noise_multiplier, w the samples of a planned unit, U the
units of a planned round, n standard normal numbers. None of them follows from the data. So no unit
moves the sum by more than C, whatever it sends and however many samples it counts for, and what
the others send changes nothing about that: neither the median norm of the round nor the number of
results that came is in the formula.

|d_k| is the norm of what the host's bytes decode to, after its codec. All that follows, the outer
step, the codec's residue in the masters, the difference that is published, is made from g.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pleb_coordinator.aggregation.combine import Stretches, cells_of, squared_norms
from pleb_coordinator.aggregation.noise import Normals
from pleb_shared.tensors.format import training_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.aggregation.combine import Encoded
    from pleb_shared.protocol.project import Privacy, ProjectMetadata
    from pleb_shared.tensors.layout import Tensors

__all__ = ["private_delta"]


def private_delta(
    deltas: Sequence[Encoded],
    weights: Sequence[float],
    metadata: ProjectMetadata,
    privacy: Privacy,
    seed: bytes,
) -> Tensors:
    """Return g, as `combined_delta` does; a model with [privacy] has no buffers.

    Args:
        deltas: K > 0 encoded deltas, in the order in which they are added; they are only read.
        weights: w_k, the number of samples that delta k was trained on.
        metadata: the model, the codec, what is planned.
        privacy: C and z.
        seed: 32 secret bytes that hide this sum alone.

    Raises:
        EncodingError: `wrong_size`.
    """
    encoding = training_format(metadata)
    cells = cells_of(deltas, encoding)
    stretches = Stretches(cells, len(deltas), encoding.stretch_step)
    planned = metadata.training.batch_examples * metadata.training.local_steps
    shares = [
        min(1.0, weight / planned) * _cut(math.sqrt(square), privacy.clip_norm)
        for weight, square in zip(weights, squared_norms(stretches), strict=True)
    ]
    deviation = privacy.noise_multiplier * privacy.clip_norm
    normals = Normals(seed)
    result: Tensors = {cell.name: np.empty(cell.numbers, np.float32) for cell in cells}
    term = np.empty(stretches.longest, np.float64)
    for name, part, read in stretches:
        here = term[: part.stop - part.start]
        total = normals.next(len(here))
        total *= deviation
        for k, share in enumerate(shares):
            np.multiply(read(k), share, out=here, dtype=np.float64)
            total += here
        total /= metadata.round.units
        result[name][part] = total
    return {s.name: result[s.name].reshape(s.shape) for s in metadata.model.parameters}


def _cut(norm: float, longest: float) -> float:
    """Return what a delta is multiplied by; what is not a number is not let through as it is."""
    return 1.0 if norm <= longest else longest / norm
