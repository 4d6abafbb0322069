"""Block quantisation of one flat float32 array: float16 scales and packed small integers.

Every step is one IEEE operation on float32 (a division, a product, a rounding), and sums are
taken in an order that is written down, so the bytes are the same on every platform.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.codec import Scheme, packed_bytes, scale_count

__all__ = ["dequantize", "quantize"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_CHUNK_NUMBERS: Final = 2**16
"""About as many numbers are worked on at once: temporaries stay in the processor's cache."""
_SMALLEST_SCALE: Final = np.float32(2.0**-24)
"""The smallest positive float16, a subnormal one."""
_LARGEST_SCALE: Final = np.float32(65504.0)
_COARSE: Final = np.float32(2.0**-23)
"""A scale below that many times the largest code may be rounded down so far, by up to 2^-25, that
the largest number of its block exceeds the largest code by a half."""
_ROUNDING: Final = np.float32(1.5 * 2.0**23)
"""A float32 near this number has no place for a fraction: adding it rounds half to even, and the
lowest byte of the sum is the code. So one addition does what rounding and conversion do."""


def quantize(values: Floats, scheme: Scheme, block: int) -> tuple[NDArray[np.float16], Bytes]:
    """Return the scales (one per block, little-endian) and the packed codes of `values` [n].

    A code is x / scale rounded half to even (`2bit`: rounded down, plus 2) and clipped. A
    scale is rounded half to even to float16, but never to zero in a block that is not zero.
    Unused bits of the last byte are zero.

    Raises:
        EncodingError: `not_finite`: a number is infinite, NaN, or too large for its scale.
    """
    scales = np.empty(scale_count(values.size, block), np.dtype("<f2"))
    packed = np.empty(packed_bytes(values.size, scheme), np.uint8)
    step = _chunk(block)
    for start in range(0, values.size, step):
        part = values[start : start + step]
        blocks = _blocks(part, block)
        some = _scales(blocks, scheme, part.size)
        scales[start // block : start // block + some.size] = some
        codes = _codes(blocks, some.astype(np.float32), scheme)[: part.size]
        first = start // scheme.per_byte
        packed[first : first + packed_bytes(part.size, scheme)] = _pack(codes, scheme)
    return scales, packed


def dequantize(
    scales: NDArray[np.float16], packed: Bytes, numbers: int, scheme: Scheme, block: int
) -> Floats:
    """Return the float32 numbers [numbers] that the scales and codes stand for."""
    values = np.empty(numbers, np.float32)
    step = _chunk(block)
    table = _table(scheme)
    for start in range(0, numbers, step):
        size = min(step, numbers - start)
        first = start // scheme.per_byte
        codes = packed[first : first + packed_bytes(size, scheme)]
        some = scales[start // block : start // block + scale_count(size, block)]
        meanings = table.take(codes).view(np.float32)[:size]
        whole = size // block * block
        factors = some.astype(np.float32)
        np.multiply(
            meanings[:whole].reshape(-1, block),
            factors[: whole // block, None],
            out=values[start : start + whole].reshape(-1, block),
        )
        if whole < size:
            np.multiply(meanings[whole:], factors[-1], out=values[start + whole : start + size])
    return values


def _chunk(block: int) -> int:
    """Return a chunk size that is whole blocks and whole bytes."""
    return block * 4 * max(1, _CHUNK_NUMBERS // (4 * block))


def _blocks(part: Floats, block: int) -> Floats:
    """Return `part` [n] as [blocks, block], the last block filled up with zeros."""
    rows = scale_count(part.size, block)
    if rows * block == part.size:
        return part.reshape(rows, block)
    filled = np.zeros(rows * block, np.float32)
    filled[: part.size] = part
    return filled.reshape(rows, block)


def _scales(blocks: Floats, scheme: Scheme, numbers: int) -> NDArray[np.float16]:
    """Return the float16 scale of every row of `blocks` [blocks, block], which hold `numbers`."""
    largest = np.maximum(blocks.max(axis=1), -blocks.min(axis=1))
    if not np.isfinite(largest).all():
        raise _not_finite()
    if scheme.largest:
        exact = largest / np.float32(scheme.largest)
    else:
        exact = _root_mean_square(blocks, largest, numbers)
    if (exact > _LARGEST_SCALE).any():
        raise _not_finite()
    exact = np.maximum(exact, _SMALLEST_SCALE)
    exact[largest == 0] = 0
    return np.asarray(exact, np.dtype("<f2"))


def _not_finite() -> EncodingError:
    message = "The delta holds numbers that are not finite or too large to encode."
    return EncodingError(RefusalCode.NOT_FINITE, message)


def _root_mean_square(blocks: Floats, largest: Floats, numbers: int) -> Floats:
    """Return the root mean square of every row; rows are scaled by `largest` against underflow.

    The sum is a tree: the second half of a row, filled up with zeros to a power of two, is
    added to the first half until one number is left.
    """
    unit = largest.copy()
    unit[largest == 0] = 1
    width = 1 << (blocks.shape[1] - 1).bit_length()
    sums: Floats = np.zeros((blocks.shape[0], width), np.float32)
    scaled = blocks / unit[:, None]
    np.multiply(scaled, scaled, out=sums[:, : blocks.shape[1]])
    while width > 1:
        width //= 2
        sums = np.add(sums[:, :width], sums[:, width : 2 * width], dtype=np.float32)
    lengths = np.full(len(blocks), blocks.shape[1], np.float32)  # the last block may be short
    lengths[-1] = numbers - (len(blocks) - 1) * blocks.shape[1]
    mean_square: Floats = sums[:, 0] / lengths
    root: Floats = np.sqrt(mean_square) * largest
    return root


def _codes(blocks: Floats, scales: Floats, scheme: Scheme) -> Bytes:
    """Return one code per number of `blocks` [blocks, block], as uint8 [blocks * block]."""
    divisors = scales.copy()
    divisors[scales == 0] = 1
    ratio: Floats = (blocks / divisors[:, None]).reshape(-1)
    if scheme.largest:
        if divisors.min() < scheme.largest * _COARSE:
            np.clip(ratio, -scheme.largest, scheme.largest, out=ratio)
        ratio += _ROUNDING + np.float32(scheme.zero)
        return ratio.view(np.uint32).astype(np.uint8)
    np.floor(ratio, out=ratio)
    np.clip(ratio, -2, 1, out=ratio)
    ratio += np.float32(2)
    return ratio.astype(np.uint8)


def _pack(codes: Bytes, scheme: Scheme) -> Bytes:
    """Return codes [n] side by side in bytes, the first in the lowest bits.

    The codes of one byte are read as one little-endian number, whose bits are then moved down.
    """
    if scheme.bits == 8:
        return codes
    if missing := -codes.size % scheme.per_byte:
        codes = np.concatenate([codes, np.zeros(missing, np.uint8)])
    words = codes.view(np.dtype(f"<u{scheme.per_byte}"))
    gathered = words >> (8 - scheme.bits)
    for place in range(2, scheme.per_byte):
        gathered |= words >> (place * (8 - scheme.bits))
    gathered |= words
    return gathered.astype(np.uint8)


def _table(scheme: Scheme) -> NDArray[Any]:
    """Return what the codes in each byte mean, before the scale: [256], to be viewed as float32.

    An element is as wide as its `per_byte` float32 numbers, so that one look-up fetches all.
    """
    byte = np.arange(256, dtype=np.uint8)
    if scheme.bits == 8:
        return byte.view(np.int8).astype(np.float32)
    shifts = np.arange(scheme.per_byte, dtype=np.uint8) * np.uint8(scheme.bits)
    codes = (byte[:, None] >> shifts) & np.uint8(2**scheme.bits - 1)
    meanings = codes.astype(np.float32) - np.float32(scheme.zero)
    return meanings.view(np.float64 if scheme.bits == 4 else np.complex128).reshape(-1)
