"""The weighted mean of many encoded deltas, one tensor at a time, in float64.

Every operation is elementwise and in the order of the deltas, so the outcome is the same to
the bit wherever it is computed. In memory are the encoded deltas, one sum and one decoded tensor.
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


def clip_factors(norms: Sequence[float]) -> list[float]:
    """Return what to multiply each delta with, so that none is longer than their median."""
    median = statistics.median(norms)
    return [min(1.0, median / norm) if norm > 0 else 1.0 for norm in norms]


def mean_delta(deltas: Sequence[bytes], weights: Sequence[float], encoding: DeltaFormat) -> Tensors:
    """Return g = sum_k w_k c_k d_k / sum_k w_k, with c_k the clip factor of d_k's L2 norm.

    Parameters come out as float32. A buffer's deltas are clipped by their own norms, since c_k
    looks at parameters only; whole numbers and booleans are the mean of their changes, rounded
    half to even.

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
    """Return the mean of the next tensor of every stream, one after the other."""
    tensors = (next(stream)[1] for stream in streams)
    return _mean(spec, tensors, weights, total).astype(np.float32).reshape(spec.shape)


def _mean_buffer(
    spec: TensorSpec, streams: Sequence[_Stream], weights: Sequence[float], total: float
) -> NDArray[Any]:
    """Return the mean of the next tensor of every stream, each clipped to their median norm."""
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
    """Return the weighted sum over `total`, flattened."""
    result = np.zeros(spec.shape, np.float64).reshape(-1)
    for tensor, weight in zip(tensors, weights, strict=True):
        _add_scaled(result, tensor.reshape(-1), weight)
    result /= total
    return result


def _add_scaled(result: NDArray[np.float64], tensor: NDArray[Any], weight: float) -> None:
    """Add weight * tensor to result [n], chunk by chunk: temporaries stay in the cache."""
    for start in range(0, result.size, _CHUNK_NUMBERS):
        part = slice(start, start + _CHUNK_NUMBERS)
        result[part] += tensor[part].astype(np.float64) * weight
