"""Block quantisation of one flat float32 array: float16 scales and packed small integers.

Every step is one IEEE operation on float32 (a division, a product, a rounding), and sums are
taken in an order that is written down, so the bytes are the same on every platform.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.protocol.codec import Scheme, packed_bytes, scale_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["dequantize", "dequantize_parts", "quantize_parts"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_CHUNK_NUMBERS: Final = 2**17
"""About as many numbers are worked on at once: temporaries stay in the processor's cache, and the
cost of a call is shared by many small arrays."""
_SMALLEST_SCALE: Final = np.float32(2.0**-24)
"""The smallest positive float16, a subnormal one."""
_LARGEST_SCALE: Final = np.float32(65504.0)
_COARSE: Final = np.float32(2.0**-23)
"""A scale below that many times the largest code may be rounded down so far, by up to 2^-25, that
the largest number of its block exceeds the largest code by a half."""
_ROUNDING: Final = np.float32(1.5 * 2.0**23)
"""A float32 near this number has no place for a fraction: adding it rounds half to even, and the
lowest byte of the sum is the code. So one addition does what rounding and conversion do."""
_MAGNITUDE: Final = np.uint32(0x7FFFFFFF)
"""All bits of a float32 but its sign. As whole numbers, magnitudes are in the order of floats."""


def quantize_parts(
    parts: Iterable[Floats], scheme: Scheme, block: int
) -> Iterator[tuple[NDArray[np.float16], Bytes]]:
    """Yield the scales (one per block, little-endian) and the packed codes of each of `parts` [n].

    A code is x / scale rounded half to even (`2bit`: rounded down, plus 2) and clipped. A
    scale is rounded half to even to float16, but never to zero in a block that is not zero.
    Unused bits of the last byte are zero.

    Raises:
        EncodingError: `not_finite`: a number is infinite, NaN, or too large for its scale.
    """
    for group in _groups(parts, _chunk(block)):
        if len(group) == 1:
            yield _quantize(group[0], scheme, block)
        else:
            yield from _quantize_small(group, scheme, block)


def dequantize_parts(
    parts: Iterable[tuple[NDArray[np.float16], Bytes, int]], scheme: Scheme, block: int
) -> Iterator[Floats]:
    """Yield the float32 numbers [n] that scales, codes and n of each of `parts` stand for."""
    step = _chunk(block)
    small: list[tuple[NDArray[np.float16], Bytes, int]] = []
    held = 0
    for part in parts:
        size = _padded(part[2], block)
        if small and held + size > step:
            yield from _dequantize_small(small, scheme, block)
            small, held = [], 0
        if size > step // 2:
            yield from _dequantize_small(small, scheme, block)
            small, held = [], 0
            yield dequantize(*part, scheme, block)
        else:
            small.append(part)
            held += size
    yield from _dequantize_small(small, scheme, block)


def dequantize(
    scales: NDArray[np.float16], packed: Bytes, numbers: int, scheme: Scheme, block: int
) -> Floats:
    """Return the float32 numbers [numbers] that the scales and codes stand for."""
    values = np.empty(numbers, np.float32)
    step = _chunk(block)
    for start in range(0, numbers, step):
        size = min(step, numbers - start)
        first = start // scheme.per_byte
        codes = packed[first : first + packed_bytes(size, scheme)]
        some = scales[start // block : start // block + scale_count(size, block)]
        meanings = _meanings(codes, scheme)[:size]
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


def _groups(parts: Iterable[Floats], step: int) -> Iterator[list[Floats]]:
    """Yield `parts` [n] in their order, small ones in groups of at most about `step` numbers."""
    group: list[Floats] = []
    held = 0
    for part in parts:
        if group and held + part.size > step:
            yield group
            group, held = [], 0
        group.append(part)
        held += part.size
    if group:
        yield group


def _quantize(values: Floats, scheme: Scheme, block: int) -> tuple[NDArray[np.float16], Bytes]:
    """Return scales and packed codes of `values` [n], chunk by chunk."""
    scales = np.empty(scale_count(values.size, block), np.dtype("<f2"))
    packed = np.empty(packed_bytes(values.size, scheme), np.uint8)
    step = _chunk(block)
    for start in range(0, values.size, step):
        part = values[start : start + step]
        blocks = _blocks(part, block)
        lengths = np.full(len(blocks), block)
        lengths[-1] = part.size - (len(blocks) - 1) * block  # the last block may be short
        some = _scales(blocks, scheme, lengths)
        scales[start // block : start // block + some.size] = some
        codes = _codes(blocks, some.astype(np.float32), scheme)[: part.size]
        first = start // scheme.per_byte
        packed[first : first + packed_bytes(part.size, scheme)] = _pack(codes, scheme)
    return scales, packed


def _quantize_small(
    parts: list[Floats], scheme: Scheme, block: int
) -> Iterator[tuple[NDArray[np.float16], Bytes]]:
    """Yield scales and packed codes of each of `parts` [n], all computed at once.

    Each part is filled up with zeros to whole blocks and bytes, so no block or byte has two.
    """
    starts = _starts([part.size for part in parts], block)
    filled = np.zeros(starts[-1], np.float32)
    lengths = np.full(starts[-1] // block, block)
    for part, start in zip(parts, starts, strict=False):
        filled[start : start + part.size] = part
        if part.size % block:
            lengths[(start + part.size) // block] = part.size % block
    blocks = filled.reshape(-1, block)
    scales = _scales(blocks, scheme, lengths)
    packed = _pack(_codes(blocks, scales.astype(np.float32), scheme), scheme)
    for part, start in zip(parts, starts, strict=False):
        first = start // scheme.per_byte
        codes = packed[first : first + packed_bytes(part.size, scheme)]
        if used := part.size % scheme.per_byte:
            codes[-1] &= (1 << used * scheme.bits) - 1
        row = start // block
        yield scales[row : row + scale_count(part.size, block)], codes


def _dequantize_small(
    parts: list[tuple[NDArray[np.float16], Bytes, int]], scheme: Scheme, block: int
) -> Iterator[Floats]:
    """Yield the numbers [n] of each of `parts`, all computed at once."""
    if not parts:
        return
    starts = _starts([numbers for _, _, numbers in parts], block)
    scales = np.zeros(starts[-1] // block, np.dtype("<f2"))
    packed = np.zeros(starts[-1] // scheme.per_byte, np.uint8)
    for (some, codes, numbers), start in zip(parts, starts, strict=False):
        row, first = start // block, start // scheme.per_byte
        scales[row : row + some.size] = some
        size = packed_bytes(numbers, scheme)
        packed[first : first + size] = codes[:size]
    blocks = _meanings(packed, scheme).reshape(-1, block)
    values = (blocks * scales.astype(np.float32)[:, None]).reshape(-1)
    for (_, _, numbers), start in zip(parts, starts, strict=False):
        yield values[start : start + numbers]


def _starts(sizes: list[int], block: int) -> list[int]:
    """Return where each of several parts starts, and where the last one ends, all filled up."""
    return list(itertools.accumulate((_padded(size, block) for size in sizes), initial=0))


def _padded(numbers: int, block: int) -> int:
    """Return `numbers` rounded up to whole blocks and whole bytes."""
    unit = math.lcm(block, 4)
    return -(-numbers // unit) * unit


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


def _scales(blocks: Floats, scheme: Scheme, lengths: NDArray[Any]) -> NDArray[np.float16]:
    """Return the float16 scale of every row of `blocks` [rows, block], filled up with zeros.

    `lengths` [rows] says how many numbers of each row are not filled up.
    """
    largest: Floats = (blocks.view(np.uint32) & _MAGNITUDE).max(axis=1).view(np.float32)
    if not np.isfinite(largest).all():
        raise _not_finite()
    if scheme.largest:
        exact = largest / np.float32(scheme.largest)
    else:
        exact = _root_mean_square(blocks, largest, lengths)
    if (exact > _LARGEST_SCALE).any():
        raise _not_finite()
    exact = np.maximum(exact, _SMALLEST_SCALE)
    exact[largest == 0] = 0
    return np.asarray(exact, np.dtype("<f2"))


def _not_finite() -> EncodingError:
    message = "The delta holds numbers that are not finite or too large to encode."
    return EncodingError(RefusalCode.NOT_FINITE, message)


def _root_mean_square(blocks: Floats, largest: Floats, lengths: NDArray[Any]) -> Floats:
    """Return the root mean square of every row; rows are scaled by `largest` against underflow.

    `blocks` [rows, block] are filled up with zeros beyond `lengths` [rows].

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
    counts: Floats = lengths.astype(np.float32)
    mean_square: Floats = sums[:, 0] / counts
    root: Floats = np.sqrt(mean_square) * largest
    return root


def _codes(blocks: Floats, scales: Floats, scheme: Scheme) -> Bytes:
    """Return one code per number of `blocks` [blocks, block], as uint8 [blocks * block]."""
    divisors = scales.copy()
    divisors[scales == 0] = 1
    ratio: Floats = (blocks / divisors[:, None]).reshape(-1)
    if scheme.largest:
        if divisors.min(initial=np.inf) < scheme.largest * _COARSE:
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


def _meanings(packed: Bytes, scheme: Scheme) -> Floats:
    """Return what each code in the bytes `packed` [m] means, before the scale: [m * per_byte].

    Two bytes are looked up at once.
    """
    table = _table(scheme)
    pairs = packed[: packed.size // 2 * 2].view(np.dtype("<u2"))
    found = table.take(pairs)
    meanings: Floats = found.view(np.float32)
    if packed.size % 2:
        last = table[packed[-1:]].view(np.float32)[: scheme.per_byte]
        meanings = np.concatenate([meanings, last])
    return meanings


@cache
def _table(scheme: Scheme) -> NDArray[Any]:
    """Return what the codes in every two bytes, the first in the lower eight bits, mean: [65536].

    An element is as wide as its 2 * `per_byte` float32 numbers, so that one look-up fetches all.
    """
    byte = np.arange(256, dtype=np.uint8)
    if scheme.bits == 8:
        meanings = byte.view(np.int8).astype(np.float32)[:, None]
    else:
        shifts = np.arange(scheme.per_byte, dtype=np.uint8) * np.uint8(scheme.bits)
        codes = (byte[:, None] >> shifts) & np.uint8(2**scheme.bits - 1)
        meanings = codes.astype(np.float32) - np.float32(scheme.zero)
    pairs = np.empty((256, 256, 2, scheme.per_byte), np.float32)
    pairs[:, :, 0] = meanings[None]  # index: second byte, first byte
    pairs[:, :, 1] = meanings[:, None]
    rows = pairs.reshape(2**16, 2 * scheme.per_byte)
    return rows.view(f"V{8 * scheme.per_byte}").reshape(-1)
