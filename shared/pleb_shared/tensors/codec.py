"""Encoded deltas and differences: no header, the layout follows from the metadata.

For each parameter in the model's order, flattened in C order to n numbers:

- `fp32`: n float32.
- `int8`, `int4`, `2bit`: ceil(n / block) float16 scales, one per block of `block` numbers (the
  last block may be short), then the codes of all n numbers, packed over the whole parameter:
  one byte each for `int8`; two per byte for `int4`, four per byte for `2bit`, the first in the
  lowest bits, unused bits of the last byte zero. A number is code * scale for `int8` (code in
  two's complement), (code - 8) * scale for `int4`, (code - 1.5) * scale for `2bit`: one float32
  product. Scales are finite and not negative.

Then for each buffer in order, flattened: float32 or float64 differences as they are; whole
numbers and booleans as int64 differences. All numbers are little-endian.

A delta is version - local, for parameters and buffers alike; a published difference is
next - previous. The same functions encode both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.project import ModelSpec, TensorSpec, elements
from pleb_shared.tensors.layout import NUMPY_DTYPES, Tensors
from pleb_shared.tensors.quantize import (
    SCHEMES,
    dequantize,
    packed_bytes,
    quantize,
    scale_count,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = [
    "buffer_dtype",
    "check_delta",
    "decode_delta",
    "encode_delta",
    "encoded_size",
    "iterate_delta",
]

_FIRST_INFINITE: Final = np.uint16(0x7C00)
"""Bits of a float16: below it all are finite and not negative."""


def buffer_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """Return the dtype of a buffer's difference: its own for floats, int64 for the rest."""
    return NUMPY_DTYPES[spec.dtype if spec.dtype.startswith("float") else "int64"]


def encoded_size(model: ModelSpec, codec: str, block: int) -> int:
    """Return the exact size in bytes of every delta of `model` in this codec."""
    return sum(_parameter_size(spec, codec, block) for spec in model.parameters) + sum(
        _buffer_size(spec) for spec in model.buffers
    )


def encode_delta(delta: Tensors, model: ModelSpec, codec: str, block: int) -> bytes:
    """Return the bytes of `delta`: parameters as float32, buffers as in `buffer_dtype`.

    Raises:
        EncodingError: `wrong_shape` (also a missing name) or `not_finite`.
    """
    parts = [_encode_parameter(_flat(delta, s), codec, block) for s in model.parameters]
    parts += [_encode_buffer(_flat(delta, s), s) for s in model.buffers]
    return b"".join(parts)


def decode_delta(data: bytes | memoryview, model: ModelSpec, codec: str, block: int) -> Tensors:
    """Return what `encode_delta` wrote: float32 parameters, buffers as in `buffer_dtype`.

    Raises:
        EncodingError: `wrong_size`. Numbers are checked by `check_delta`, not here.
    """
    return dict(iterate_delta(data, model, codec, block))


def iterate_delta(
    data: bytes | memoryview, model: ModelSpec, codec: str, block: int
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (name, array) in the model's order; only one decoded tensor is alive at a time.

    Raises:
        EncodingError: `wrong_size`.
    """
    for spec, part in _parts(data, model, codec, block):
        yield spec.name, _decode_parameter(part, elements(spec), codec, block).reshape(spec.shape)
    for spec, part in _buffer_parts(data, model):
        yield spec.name, part.view(buffer_dtype(spec)).reshape(spec.shape).copy()


def check_delta(data: bytes | memoryview, model: ModelSpec, codec: str, block: int) -> None:
    """Check all that can be known without another result; a few operations per tensor.

    Raises:
        EncodingError: `wrong_size`; `not_finite`: a number or scale is infinite, NaN, or a
            scale is negative; `malformed`: unused bits are not zero.
    """
    for spec, part in _parts(data, model, codec, block):
        _check_parameter(spec, part, codec, block)
    for spec, part in _buffer_parts(data, model):
        dtype = buffer_dtype(spec)
        if dtype.kind == "f" and not np.isfinite(part.view(dtype)).all():
            raise _not_finite(spec)


def _parameter_size(spec: TensorSpec, codec: str, block: int) -> int:
    numbers = elements(spec)
    if codec == "fp32":
        return 4 * numbers
    return 2 * scale_count(numbers, block) + packed_bytes(numbers, SCHEMES[codec])


def _buffer_size(spec: TensorSpec) -> int:
    return elements(spec) * buffer_dtype(spec).itemsize


def _parts(
    data: bytes | memoryview, model: ModelSpec, codec: str, block: int
) -> Iterator[tuple[TensorSpec, NDArray[np.uint8]]]:
    """Yield the bytes of every parameter, once the whole size was found right."""
    size = encoded_size(model, codec, block)
    if len(data) != size:
        message = f"The encoded delta has {len(data)} bytes; this model's has {size}."
        raise EncodingError(RefusalCode.WRONG_SIZE, message)
    raw = np.frombuffer(data, np.uint8)
    start = 0
    for spec in model.parameters:
        end = start + _parameter_size(spec, codec, block)
        yield spec, raw[start:end]
        start = end


def _buffer_parts(
    data: bytes | memoryview, model: ModelSpec
) -> Iterator[tuple[TensorSpec, NDArray[np.uint8]]]:
    """Yield the bytes of every buffer; they stand at the end of the delta."""
    raw = np.frombuffer(data, np.uint8)
    start = raw.size - sum(_buffer_size(spec) for spec in model.buffers)
    for spec in model.buffers:
        end = start + _buffer_size(spec)
        yield spec, raw[start:end].copy()  # a copy is aligned, whatever came before it
        start = end


def _flat(delta: Tensors, spec: TensorSpec) -> NDArray[Any]:
    array = delta.get(spec.name)
    if array is None or list(array.shape) != spec.shape:
        found = "missing" if array is None else f"of shape {list(array.shape)}"
        message = f"Tensor {spec.name!r} of the delta is {found}; its shape is {spec.shape}."
        raise EncodingError(RefusalCode.WRONG_SHAPE, message)
    return np.ascontiguousarray(array).reshape(-1)


def _encode_parameter(values: NDArray[Any], codec: str, block: int) -> bytes:
    numbers = values.astype(NUMPY_DTYPES["float32"], copy=False)
    if codec == "fp32":
        return _finite(numbers).tobytes()
    scales, packed = quantize(numbers, SCHEMES[codec], block)
    return scales.tobytes() + packed.tobytes()


def _encode_buffer(values: NDArray[Any], spec: TensorSpec) -> bytes:
    return _finite(values.astype(buffer_dtype(spec), copy=False)).tobytes()


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        message = "The delta holds numbers that are not finite."
        raise EncodingError(RefusalCode.NOT_FINITE, message)
    return values


def _decode_parameter(
    part: NDArray[np.uint8], numbers: int, codec: str, block: int
) -> NDArray[np.float32]:
    if codec == "fp32":
        return part.copy().view(NUMPY_DTYPES["float32"]).astype(np.float32, copy=False)
    split = 2 * scale_count(numbers, block)
    scales = part[:split].copy().view(np.dtype("<f2"))
    return dequantize(scales, part[split:], numbers, SCHEMES[codec], block)


def _check_parameter(spec: TensorSpec, part: NDArray[np.uint8], codec: str, block: int) -> None:
    if codec == "fp32":
        if not np.isfinite(part.copy().view(NUMPY_DTYPES["float32"])).all():
            raise _not_finite(spec)
        return
    scheme, numbers = SCHEMES[codec], elements(spec)
    bits = part[: 2 * scale_count(numbers, block)].copy().view(np.dtype("<u2"))
    if not (bits < _FIRST_INFINITE).all():
        raise _not_finite(spec)
    used = numbers % scheme.per_byte
    if used and part[-1] >> (used * scheme.bits):
        message = f"Unused bits at the end of {spec.name!r} are not zero."
        raise EncodingError(RefusalCode.MALFORMED, message)


def _not_finite(spec: TensorSpec) -> EncodingError:
    message = f"Tensor {spec.name!r} of the delta holds numbers or scales that are not finite."
    return EncodingError(RefusalCode.NOT_FINITE, message)
