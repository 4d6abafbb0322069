"""How large a delta is, and how far two deltas of the same unit lie apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.protocol.project import ModelSpec, TensorSpec, elements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pleb_shared.tensors.layout import Tensors

__all__ = ["delta_norm", "distances", "tensor_norm"]

_FLOOR: Final = 1e-3
"""Share of the overall root mean square below which a tensor counts as hardly moved."""
_CHUNK_NUMBERS: Final = 2**16


def delta_norm(tensors: Tensors, model: ModelSpec) -> float:
    """Return the L2 norm over all parameters (buffers do not count), summed in float64.

    The order of the sum is fixed, so the norm is the same on every platform. NaN where a
    number is NaN or numbers of both infinities meet.
    """
    return math.sqrt(sum(_square(tensors[spec.name]) for spec in model.parameters))


def tensor_norm(array: NDArray[Any]) -> float:
    """Return the L2 norm of one array, summed in float64 as `delta_norm` does."""
    return math.sqrt(_square(array))


def distances(a: Tensors, b: Tensors, model: ModelSpec) -> dict[str, float]:
    """Return the relative L2 distance of two decoded deltas, by the tensor's name.

    d = ||a - b|| / max(||a||, ||b||, f), with f = 1e-3 * R * sqrt(n) for the n numbers of the
    tensor, and R the larger root mean square of all parameters of a or b (for a buffer: of
    all buffers). So a tensor that hardly moves cannot blow up its ratio. It is symmetric, 0
    for equal tensors, at most 2, and infinite where a number is not finite.
    """
    return {
        **_group_distances(a, b, model.parameters),
        **_group_distances(a, b, model.buffers),
    }


def _group_distances(a: Tensors, b: Tensors, specs: Sequence[TensorSpec]) -> dict[str, float]:
    squares = {s.name: max(_square(a[s.name]), _square(b[s.name])) for s in specs}
    count = sum(elements(spec) for spec in specs)
    mean_square = sum(squares.values()) / max(count, 1)
    return {
        spec.name: _ratio(
            _square_difference(a[spec.name], b[spec.name]),
            max(squares[spec.name], _FLOOR**2 * mean_square * elements(spec)),
        )
        for spec in specs
    }


def _ratio(numerator: float, denominator: float) -> float:
    """Return sqrt(numerator / denominator): 0 for 0 / 0, infinite for what is not finite."""
    if not (math.isfinite(numerator) and math.isfinite(denominator)):
        return math.inf
    return math.sqrt(numerator / denominator) if denominator > 0 else 0.0


def _square(array: NDArray[Any]) -> float:
    """Return the sum of squares in float64, chunk by chunk; NaN and infinity pass through."""
    flat = array.reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        return float(
            sum(
                np.square(flat[start : start + _CHUNK_NUMBERS], dtype=np.float64).sum()
                for start in range(0, flat.size, _CHUNK_NUMBERS)
            )
        )


def _square_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the sum of squares of a - b in float64, chunk by chunk."""
    x, y = a.reshape(-1), b.reshape(-1)
    total = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, x.size, _CHUNK_NUMBERS):
            part = slice(start, start + _CHUNK_NUMBERS)
            total += float(np.square(x[part].astype(np.float64) - y[part]).sum())
    return total
