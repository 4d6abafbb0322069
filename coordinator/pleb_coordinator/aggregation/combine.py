"""The weighted mean of many encoded deltas, one tensor at a time, in float64.

Every operation is elementwise and in the order of the deltas, so the outcome is the same to
the bit wherever it is computed. In memory are the encoded deltas, one sum and one decoded tensor.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.tensors.codec import buffer_dtype, decode_delta, iterate_delta
from pleb_shared.tensors.distance import delta_norm
from pleb_shared.tensors.layout import Tensors, model_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pleb_shared.protocol.project import Codec, ModelSpec, TensorSpec

__all__ = ["clip_factors", "mean_delta"]

_CHUNK_NUMBERS: Final = 2**16


def clip_factors(norms: Sequence[float]) -> list[float]:
    """Return what to multiply each delta with, so that none is longer than their median."""
    median = statistics.median(norms)
    return [min(1.0, median / norm) if norm > 0 else 1.0 for norm in norms]


def mean_delta(
    deltas: Sequence[bytes], weights: Sequence[float], model: ModelSpec, codec: Codec
) -> Tensors:
    """Return g = sum_k w_k c_k d_k / sum_k w_k, with c_k the clip factor of d_k's L2 norm.

    Parameters come out as float32. Buffers are not clipped: floats are the weighted mean,
    whole numbers and booleans the weighted mean of their changes, rounded half to even.

    Raises:
        EncodingError: `wrong_size`.
    """
    norms = [delta_norm(decode_delta(data, model, codec.up, codec.block), model) for data in deltas]
    factors = clip_factors(norms)
    clipped = [weight * factor for weight, factor in zip(weights, factors, strict=True)]
    total = float(sum(weights))
    parameters = {spec.name for spec in model.parameters}
    streams = [iterate_delta(data, model, codec.up, codec.block) for data in deltas]
    return {
        spec.name: _mean(
            spec, streams, clipped if spec.name in parameters else weights, total, parameters
        )
        for spec in model_tensors(model)
    }


def _mean(
    spec: TensorSpec,
    streams: Sequence[Iterator[tuple[str, NDArray[Any]]]],
    weights: Sequence[float],
    total: float,
    parameters: set[str],
) -> NDArray[Any]:
    """Return the mean of the next tensor of every stream."""
    result = np.zeros(spec.shape, np.float64).reshape(-1)
    for stream, weight in zip(streams, weights, strict=True):
        _, tensor = next(stream)
        _add_scaled(result, tensor.reshape(-1), weight)
    result /= total
    dtype = np.dtype(np.float32) if spec.name in parameters else buffer_dtype(spec)
    if dtype.kind != "f":
        np.rint(result, out=result)
    return result.astype(dtype).reshape(spec.shape)


def _add_scaled(result: NDArray[np.float64], tensor: NDArray[Any], weight: float) -> None:
    """Add weight * tensor to result [n], chunk by chunk: temporaries stay in the cache."""
    for start in range(0, result.size, _CHUNK_NUMBERS):
        part = slice(start, start + _CHUNK_NUMBERS)
        result[part] += tensor[part].astype(np.float64) * weight
