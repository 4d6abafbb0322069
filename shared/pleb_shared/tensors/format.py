"""The format of a unit's delta: which tensors, which codec, which exact size.

`delta_format(metadata, unit)` is the only place that knows this; encoders, decoders, checks and
the combination all ask it. Published differences have `difference_format(metadata)`.

A delta has no header, since its layout follows from the signed metadata. For each parameter that
the unit's chunk trains, in the model's order and the chunk's shape, flattened in C order to n
numbers:

- `fp32`: n float32.
- `int8`, `int4`, `2bit`: ceil(n / block) float16 scales, one per block of `block` numbers (the
  last block may be short), then the codes of all n numbers, packed over the whole parameter:
  one byte each for `int8`; two per byte for `int4`, four per byte for `2bit`, the first in the
  lowest bits, unused bits of the last byte zero. A number is code * scale for `int8` (code in
  two's complement), (code - 8) * scale for `int4`, (code - 1.5) * scale for `2bit`: one float32
  product. Scales are finite and not negative.

Then for each buffer in order, flattened: float32 or float64 differences as they are; those of
int64 and int32 as int64, of uint8 as int16, of booleans as int8. All numbers are little-endian.

A delta is version - local, for parameters and buffers alike; a published difference is
next - previous. Both are packed on the way (`packing`); sizes and digests here are of what is
encoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.codec import (
    BUFFER_DIFFERENCES,
    SCHEMES,
    buffer_bytes,
    delta_bytes,
    packed_most,
    parameter_bytes,
    scale_count,
)
from pleb_shared.protocol.project import CodecName, ModelSpec, TensorSpec, elements
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.chunk_view import chunk_view
from pleb_shared.tensors.layout import NUMPY_DTYPES, Tensors
from pleb_shared.tensors.packing import unpack_parts
from pleb_shared.tensors.quantize import dequantize, dequantize_parts, quantize_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["DeltaFormat", "buffer_dtype", "delta_format", "difference_format", "training_format"]

_CHECKED_BYTES: Final = 4 * 2**20
"""Of a tensor, at once: a multiple of every number's size."""
_FIRST_INFINITE: Final = np.uint16(0x7C00)
"""Bits of a float16: all below are finite and not negative."""


class HasKind(Protocol):
    """A unit, as a manifest or as a row of the store has it."""

    @property
    def kind(self) -> UnitKind:
        """Whether it trains, evaluates or calibrates."""

    @property
    def chunk(self) -> str:
        """The part of the model that it works on."""


@dataclass(frozen=True)
class DeltaFormat:
    """The tensors of `model`, in this codec; `block` numbers share one scale."""

    model: ModelSpec
    codec: CodecName
    block: int

    @property
    def size(self) -> int:
        """The exact size in bytes of every delta in this format."""
        return delta_bytes(self.model, self.codec, self.block)

    @property
    def packed_most(self) -> int:
        """How many bytes a delta may have on the way, where it is packed losslessly."""
        return packed_most(self.size)

    def unpack(self, data: bytes | memoryview) -> bytes:
        """Return the encoded delta that came packed as `data`.

        Raises:
            EncodingError: `wrong_size` or `malformed`, before more is unpacked than a delta has.
        """
        return b"".join(self.unpack_parts([data], len(data)))

    def unpack_parts(
        self, parts: Iterable[bytes | memoryview], packed_bytes: int
    ) -> Iterator[bytes]:
        """Yield the encoded delta that came packed in `parts`, a mebibyte at once at most.

        It is a delta only if the iterator ends. `packed_bytes`: what the parts have together.

        Raises:
            EncodingError: as `unpack`; `wrong_size` before any part is looked at.
        """
        if packed_bytes > self.packed_most:
            message = f"The packed delta has {packed_bytes} bytes; {self.packed_most} are allowed."
            raise EncodingError(RefusalCode.WRONG_SIZE, message)
        return unpack_parts(parts, self.size)

    def encode(self, delta: Tensors) -> bytes:
        """Return the bytes of `delta`, whose arrays have the shapes of the model's tensors.

        Parameters are taken as float32, buffers as in `buffer_dtype`.

        Raises:
            EncodingError: `wrong_shape` (also a missing name) or `not_finite`.
        """
        parameters = (
            _flat(delta, spec).astype(NUMPY_DTYPES["float32"], copy=False)
            for spec in self.model.parameters
        )
        parts: list[bytes]
        if self.codec == "fp32":
            parts = [_finite(numbers).tobytes() for numbers in parameters]
        else:
            encoded = quantize_parts(parameters, SCHEMES[self.codec], self.block)
            parts = [part.tobytes() for pair in encoded for part in pair]
        parts += [
            _finite(_flat(delta, spec).astype(buffer_dtype(spec), copy=False)).tobytes()
            for spec in self.model.buffers
        ]
        return b"".join(parts)

    def decode(self, data: bytes | memoryview) -> Tensors:
        """Return what `encode` wrote: float32 parameters, buffers as in `buffer_dtype`.

        Raises:
            EncodingError: `wrong_size`. Numbers are checked by `check`, not here.
        """
        return dict(self.iterate(data))

    def iterate(self, data: bytes | memoryview) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield (name, array) in the model's order; of large tensors only one is alive at a time.

        Raises:
            EncodingError: `wrong_size`.
        """
        found = self.parameter_parts(data)
        if self.codec == "fp32":
            for spec, part in found:
                yield spec.name, _floats(part).reshape(spec.shape)
        else:
            split = (self._split(part, elements(spec)) for spec, part in found)
            decoded = dequantize_parts(split, SCHEMES[self.codec], self.block)
            for spec, numbers in zip(self.model.parameters, decoded, strict=True):
                yield spec.name, numbers.reshape(spec.shape)
        for spec, part in self.buffer_parts(data):
            yield spec.name, part.view(buffer_dtype(spec)).reshape(spec.shape).copy()

    def check(self, data: bytes | memoryview) -> None:
        """Check all that can be known without another result; a few operations per tensor.

        Raises:
            EncodingError: `wrong_size`; `not_finite`: a number or scale is infinite, NaN, or a
                scale is negative; `malformed`: unused bits are not zero.
        """
        if len(data) != self.size:
            raise self._wrong_size(len(data))
        view = memoryview(data)
        self.check_read(lambda start, end: view[start:end])

    def check_read(self, read: Callable[[int, int], bytes | memoryview]) -> None:
        """Check the delta that `read(start, end)` returns the bytes of, a few MiB at once.

        It must have the right size.

        Raises:
            EncodingError: as `check`.
        """
        end = 0
        for spec in self.model.parameters:
            start, end = end, end + parameter_bytes(spec, self.codec, self.block)
            self._check_parameter(spec, read, start, end)
        for spec in self.model.buffers:
            start, end = end, end + buffer_bytes(spec)
            dtype = buffer_dtype(spec)
            if dtype.kind == "f":
                for part in _stretches(read, start, end):
                    if not np.isfinite(part.view(dtype)).all():
                        raise _not_finite(spec)

    def parameter_parts(
        self, data: bytes | memoryview
    ) -> Iterator[tuple[TensorSpec, NDArray[np.uint8]]]:
        """Yield the bytes of every parameter, once the whole size has been found right.

        Raises:
            EncodingError: `wrong_size`.
        """
        if len(data) != self.size:
            raise self._wrong_size(len(data))
        raw = np.frombuffer(data, np.uint8)
        start = 0
        for spec in self.model.parameters:
            end = start + parameter_bytes(spec, self.codec, self.block)
            yield spec, raw[start:end]
            start = end

    def decode_stretch(
        self, part: NDArray[np.uint8], numbers: int, start: int, stop: int
    ) -> NDArray[np.float32]:
        """Return the numbers [stop - start] from `start` on of a parameter of `numbers` numbers.

        `part` [bytes] is the parameter's, as `parameter_parts` yields it; `start` is a multiple
        of `stretch_step`. With `fp32` the numbers are a view of `part`.
        """
        if self.codec == "fp32":
            return part[4 * start : 4 * stop].view(NUMPY_DTYPES["float32"])
        scheme, split = SCHEMES[self.codec], 2 * scale_count(numbers, self.block)
        first, last = start // self.block, scale_count(stop, self.block)
        scales = part[2 * first : 2 * last].copy().view(np.dtype("<f2"))
        packed = part[split + start // scheme.per_byte :]
        return dequantize(scales, packed, stop - start, scheme, self.block)

    @property
    def stretch_step(self) -> int:
        """Where a stretch may start: at whole blocks and whole bytes."""
        return math.lcm(self.block, 4)

    def buffer_parts(
        self, data: bytes | memoryview
    ) -> Iterator[tuple[TensorSpec, NDArray[np.uint8]]]:
        """Yield the bytes of every buffer, to be viewed as `buffer_dtype`.

        They are at the end of the delta.
        """
        raw = np.frombuffer(data, np.uint8)
        start = raw.size - sum(buffer_bytes(spec) for spec in self.model.buffers)
        for spec in self.model.buffers:
            end = start + buffer_bytes(spec)
            yield spec, raw[start:end].copy()  # a copy is aligned, whatever came before it
            start = end

    def _split(
        self, part: NDArray[np.uint8], numbers: int
    ) -> tuple[NDArray[np.float16], NDArray[np.uint8], int]:
        """Return the scales and the codes in `part` [bytes] of a parameter, and how many it has."""
        split = 2 * scale_count(numbers, self.block)
        return part[:split].copy().view(np.dtype("<f2")), part[split:], numbers

    def _check_parameter(
        self,
        spec: TensorSpec,
        read: Callable[[int, int], bytes | memoryview],
        start: int,
        end: int,
    ) -> None:
        """Raise unless the bytes from `start` to `end` are a valid encoding of the parameter."""
        if self.codec == "fp32":
            for part in _stretches(read, start, end):
                if not np.isfinite(part.view(NUMPY_DTYPES["float32"])).all():
                    raise _not_finite(spec)
            return
        scheme, numbers = SCHEMES[self.codec], elements(spec)
        for part in _stretches(read, start, start + 2 * scale_count(numbers, self.block)):
            if not (part.view(np.dtype("<u2")) < _FIRST_INFINITE).all():
                raise _not_finite(spec)
        used = numbers % scheme.per_byte
        if used and read(end - 1, end)[0] >> (used * scheme.bits):
            message = f"Unused bits at the end of {spec.name!r} are not zero."
            raise EncodingError(RefusalCode.MALFORMED, message)

    def _wrong_size(self, found: int) -> EncodingError:
        message = f"The encoded delta has {found} bytes; this model's has {self.size}."
        return EncodingError(RefusalCode.WRONG_SIZE, message)


def delta_format(metadata: ProjectMetadata, unit: HasKind) -> DeltaFormat:
    """Return the format of the delta that `unit` results in.

    A calibration is compared to the bit, so it is never quantised.

    Raises:
        EncodingError: `wrong_result`: an evaluation results in metrics.
        Refusal: as `chunk_view`.
    """
    if unit.kind == UnitKind.EVALUATE:
        message = "An evaluation unit results in metrics, not in a delta."
        raise EncodingError(RefusalCode.WRONG_RESULT, message)
    if unit.kind == UnitKind.CALIBRATE:
        model = chunk_view(metadata, unit.chunk).model
        return DeltaFormat(model, "fp32", metadata.codec.block)
    return training_format(metadata, unit.chunk)


def training_format(metadata: ProjectMetadata, chunk: str = FULL) -> DeltaFormat:
    """Return the format of a training unit's delta: of the whole model, or of a chunk.

    Raises:
        Refusal: as `chunk_view`.
    """
    model = chunk_view(metadata, chunk).model
    return DeltaFormat(model, metadata.codec.up, metadata.codec.block)


def difference_format(metadata: ProjectMetadata) -> DeltaFormat:
    """Return the format of the differences that lead from one version to the next."""
    return DeltaFormat(metadata.model, metadata.codec.down, metadata.codec.block)


def buffer_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """Return the dtype of a buffer's difference: see `BUFFER_DIFFERENCES`."""
    return NUMPY_DTYPES[BUFFER_DIFFERENCES[spec.dtype]]


def _flat(delta: Tensors, spec: TensorSpec) -> NDArray[Any]:
    """Return the delta's tensor as a contiguous [n]."""
    array = delta.get(spec.name)
    if array is None or list(array.shape) != spec.shape:
        found = "missing" if array is None else f"of shape {list(array.shape)}"
        message = f"Tensor {spec.name!r} of the delta is {found}; its shape is {spec.shape}."
        raise EncodingError(RefusalCode.WRONG_SHAPE, message)
    return np.ascontiguousarray(array).reshape(-1)


def _stretches(
    read: Callable[[int, int], bytes | memoryview], start: int, end: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield copies of the bytes, which are aligned, whatever came before them."""
    for first in range(start, end, _CHECKED_BYTES):
        yield np.frombuffer(read(first, min(end, first + _CHECKED_BYTES)), np.uint8).copy()


def _floats(part: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a copy of the float32 numbers in `part` [bytes], in this machine's byte order."""
    return part.copy().view(NUMPY_DTYPES["float32"]).astype(np.float32, copy=False)


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    """Return `values` [n] if all of them are finite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        message = "The delta holds numbers that are not finite."
        raise EncodingError(RefusalCode.NOT_FINITE, message)
    return values


def _not_finite(spec: TensorSpec) -> EncodingError:
    message = f"Tensor {spec.name!r} of the delta holds numbers or scales that are not finite."
    return EncodingError(RefusalCode.NOT_FINITE, message)
