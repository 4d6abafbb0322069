"""How large a delta is, and how far apart two deltas of the same unit are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.protocol.codec import SCHEMES
from pleb_shared.protocol.project import ModelSpec, TensorSpec, elements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pleb_shared.tensors.format import DeltaFormat
    from pleb_shared.tensors.layout import Tensors

__all__ = ["delta_norm", "distances", "parameter_norms", "tensor_norm"]

_PARAMETER_FLOOR: Final = 0.1
"""Share of the whole update's root mean square below which a parameter counts as hardly moved: its
numbers then matter little to the model, and rounding much to them."""
_BUFFER_FLOOR: Final = 1e-3
"""The same for buffers, whose scales differ more."""
_WEIGHT_FLOOR: Final = 2.0**-16
"""An update of this share of the weights is as good as none: a float32 weight is rounded to 2^-24
of itself in each of a unit's steps, so honest updates differ by up to about 1e-6 of the weights."""
_CHUNK_NUMBERS: Final = 2**16
_NUMBERS_PER_FLIP: Final = 1000
_SCALE_ROUNDING: Final = 1 + 2.0**-10
"""Scales are float16: a step may be this much longer than the largest number implies."""


def delta_norm(tensors: Tensors, model: ModelSpec) -> float:
    """Return the L2 norm over all parameters (buffers do not count), summed in float64.

    `tensors` have the shapes of the model's specs. The order of the sum is fixed, so the norm is
    the same on every platform. NaN where a number is NaN or numbers of both infinities meet.
    """
    return math.sqrt(sum(_square(tensors[spec.name]) for spec in model.parameters))


def tensor_norm(array: NDArray[Any]) -> float:
    """Return the L2 norm of one array [...], summed in float64 as `delta_norm` does."""
    return math.sqrt(_square(array))


def parameter_norms(version: Tensors, model: ModelSpec) -> tuple[float, ...]:
    """Return the L2 norms of a version's parameters in the model's order, to four digits.

    `version` has the shapes of the model's specs.
    """
    return tuple(float(f"{tensor_norm(version[spec.name]):.4g}") for spec in model.parameters)


def distances(
    a: Tensors, b: Tensors, encoding: DeltaFormat, weights: Sequence[float] = ()
) -> dict[str, float]:
    """Return the relative L2 distance of two deltas, decoded from `encoding`, by the tensor's name.

    Each tensor of `a` and `b` has the shape of its spec. `weights` are the `parameter_norms` of the
    version that both start from; empty: not known, which leaves out the second floor.

    d = ||r|| / max(||a||, ||b||, f). r is a - b, but for rounding: a number near the middle of
    two codes is rounded up by one honest host and down by another, which in a tensor of ten
    numbers is a distance of .1. So in every stretch of 65,536 numbers, one in a thousand (at
    least one) of the largest differences is less by one code step, which is taken from the
    tensor's largest number. One percent of noise moves twenty codes in a thousand.

    There are two floors, and f is the larger. The first is c * R * sqrt(n) for the n numbers of the
    tensor, and R the larger root mean square of all parameters of a or b, c = .1 (for a buffer: of
    all buffers, c = .001). So a tensor that hardly moves counts by its share of the whole update,
    and cannot blow up its ratio. The second is 2^-16 of the norm of the tensor's weights: once a
    model has converged, its updates are rounding noise, and so is their difference. d is symmetric,
    0 for equal tensors, at most 2, and infinite where a number is not finite.
    """
    scheme, model = SCHEMES.get(encoding.codec), encoding.model
    step = scheme.step if scheme else 0.0
    noise = [(_WEIGHT_FLOOR * norm) ** 2 for norm in weights] or [0.0] * len(model.parameters)
    still = [0.0] * len(model.buffers)
    return {
        **_group_distances(a, b, model.parameters, noise, floor=_PARAMETER_FLOOR, code_step=step),
        **_group_distances(a, b, model.buffers, still, floor=_BUFFER_FLOOR, code_step=0.0),
    }


def _group_distances(
    a: Tensors,
    b: Tensors,
    specs: Sequence[TensorSpec],
    noise: Sequence[float],
    *,
    floor: float,
    code_step: float,
) -> dict[str, float]:
    """Return d for every tensor of a group, whose shapes are those of `specs`.

    `noise` has the square of the second floor for each tensor.
    """
    squares = {s.name: max(_square(a[s.name]), _square(b[s.name])) for s in specs}
    count = sum(elements(spec) for spec in specs)
    mean_square = sum(squares.values()) / max(count, 1)
    return {
        spec.name: _ratio(
            _square_difference(a[spec.name], b[spec.name], code_step),
            max(squares[spec.name], floor**2 * mean_square * elements(spec), least),
        )
        for spec, least in zip(specs, noise, strict=True)
    }


def _ratio(numerator: float, denominator: float) -> float:
    """Return sqrt(numerator / denominator): 0 for 0 / 0, infinite for what is not finite."""
    if not (math.isfinite(numerator) and math.isfinite(denominator)):
        return math.inf
    return math.sqrt(numerator / denominator) if denominator > 0 else 0.0


def _square(array: NDArray[Any]) -> float:
    """Return the sum of squares of [...] in float64, chunk by chunk; NaN and infinity pass."""
    flat = array.reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        return float(
            sum(
                np.square(flat[start : start + _CHUNK_NUMBERS], dtype=np.float64).sum()
                for start in range(0, flat.size, _CHUNK_NUMBERS)
            )
        )


def _square_difference(a: NDArray[Any], b: NDArray[Any], code_step: float) -> float:
    """Return the sum of squares of r (see `distances`) in float64, chunk by chunk.

    `a` and `b` have one shape. `code_step` is the step between two codes as a share of the
    tensor's largest number.
    """
    x, y = a.reshape(-1), b.reshape(-1)
    total = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        step = code_step * max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))
        for start in range(0, x.size, _CHUNK_NUMBERS):
            part = slice(start, start + _CHUNK_NUMBERS)
            apart = np.abs(x[part].astype(np.float64) - y[part])
            if step:
                count = max(1, apart.size // _NUMBERS_PER_FLIP)
                largest = np.argpartition(apart, -count)[-count:]
                apart[largest] = np.maximum(apart[largest] - float(step) * _SCALE_ROUNDING, 0)
            total += float(np.square(apart).sum())
    return total
