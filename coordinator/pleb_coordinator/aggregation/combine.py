"""The weighted mean of K encoded deltas, one tensor at a time, in float64.

Every operation is elementwise and in the order of the deltas, so the result is the same to the bit
wherever it is computed. In memory are the encoded deltas, one sum and one decoded tensor.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.tensors.distance import delta_norm, tensor_norm
from pleb_shared.tensors.format import buffer_dtype
from pleb_shared.tensors.layout import Tensors, model_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from pleb_shared.protocol.project import TensorSpec
    from pleb_shared.tensors.format import DeltaFormat

    _Stream = Iterator[tuple[str, NDArray[Any]]]

__all__ = ["clip_factors", "mean_delta"]

_CHUNK_NUMBERS: Final = 2**16
"""512 KiB of float64: the temporaries of one chunk stay in a core's cache."""


def clip_factors(norms: Sequence[float]) -> list[float]:
    """Return c_k = min(1, median(norms) / norm_k) for each of the K norms; 1 where a norm is 0.

    So no delta is longer than their median, and one huge delta cannot outweigh the others.
    """
    median = statistics.median(norms)
    return [min(1.0, median / norm) if norm > 0 else 1.0 for norm in norms]


def mean_delta(deltas: Sequence[bytes], weights: Sequence[float], encoding: DeltaFormat) -> Tensors:
    """Return g = sum_k w_k c_k d_k / sum_k w_k, with c_k the clip factor of d_k's L2 norm.

    The norms are those of all parameters together, so the direction of each delta stays. Buffers
    are not part of them: each buffer's deltas are clipped by their own norms.

    Args:
        deltas: K encoded deltas, in the order in which they are added.
        weights: w_k, the number of samples that delta k was trained on.
        encoding: the format of all of them.

    Returns:
        Every tensor of the model in its own shape: parameters as float32, buffers in the dtype of
        their changes (whole numbers and booleans as int64, rounded half to even).

    Raises:
        EncodingError: `wrong_size`.
    """
    model = encoding.model
    norms = [delta_norm(encoding.decode(data), model) for data in deltas]
    factors = clip_factors(norms)
    clipped = [weight * factor for weight, factor in zip(weights, factors, strict=True)]
    total = float(sum(weights))
    parameters = {spec.name for spec in model.parameters}
    streams = [encoding.iterate(data) for data in deltas]
    return {
        spec.name: _mean_parameter(spec, streams, clipped, total)
        if spec.name in parameters
        else _mean_buffer(spec, streams, weights, total)
        for spec in model_tensors(model)
    }


def _mean_parameter(
    spec: TensorSpec, streams: Sequence[_Stream], weights: Sequence[float], total: float
) -> NDArray[Any]:
    """Return the mean of the next tensor of every stream: float32 [*spec.shape].

    The tensors, each float32 [*spec.shape], are decoded one after the other.
    """
    tensors = (next(stream)[1] for stream in streams)
    return _mean(spec, tensors, weights, total).astype(np.float32).reshape(spec.shape)


def _mean_buffer(
    spec: TensorSpec, streams: Sequence[_Stream], weights: Sequence[float], total: float
) -> NDArray[Any]:
    """Return the mean of the next tensor of every stream, clipped: [*spec.shape].

    The K tensors, each [*spec.shape], are in memory at once, for their median norm.
    """
    tensors = [next(stream)[1] for stream in streams]
    factors = clip_factors([tensor_norm(tensor) for tensor in tensors])
    clipped = [weight * factor for weight, factor in zip(weights, factors, strict=True)]
    result = _mean(spec, tensors, clipped, total)
    dtype = buffer_dtype(spec)
    if dtype.kind != "f":
        np.rint(result, out=result)
    return result.astype(dtype).reshape(spec.shape)


def _mean(
    spec: TensorSpec, tensors: Iterable[NDArray[Any]], weights: Sequence[float], total: float
) -> NDArray[np.float64]:
    """Return sum_k w_k t_k / total, flattened: float64 [n]; each t_k is [*spec.shape]."""
    result = np.zeros(spec.shape, np.float64).reshape(-1)
    for tensor, weight in zip(tensors, weights, strict=True):
        flat = tensor.reshape(-1)  # [n]
        for start in range(0, result.size, _CHUNK_NUMBERS):
            part = slice(start, start + _CHUNK_NUMBERS)
            result[part] += flat[part].astype(np.float64) * weight
    result /= total
    return result
