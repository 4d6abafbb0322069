"""The codecs of deltas and differences as figures: how they write numbers, and how many bytes.

The arithmetic is in `pleb_shared.tensors`; this needs no numpy, so that agentd can use it. A new
codec is an entry in `CodecName` and one in `SCHEMES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.project import ITEM_BYTES, elements

if TYPE_CHECKING:
    from pleb_shared.protocol.project import CodecName, ModelSpec, TensorSpec

__all__ = [
    "BUFFER_DIFFERENCES",
    "SCHEMES",
    "Scheme",
    "buffer_bytes",
    "delta_bytes",
    "packed_bytes",
    "packed_most",
    "parameter_bytes",
    "scale_count",
]

BUFFER_DIFFERENCES: Final = {
    "float32": "float32",
    "float64": "float64",
    "int64": "int64",
    "int32": "int64",
    "uint8": "int16",
    "bool": "int8",
}
"""What the differences of a buffer are written as: every one of its values less another fits."""


@dataclass(frozen=True)
class Scheme:
    """A way to write numbers in `bits` bits. A stored code c means (c - zero) * scale.

    `int8`: codes are two's complement bytes -127..127, scale = max|x| / 127.
    `int4`: codes 1..15 less 8 are -7..7, scale = max|x| / 7.
    `2bit`: codes 0..3 less 1.5 are -1.5, -.5, .5, 1.5; scale = the root mean square of x
        (within 0.5 % of the best uniform step for normal numbers; Max 1960, table I).
    """

    bits: int
    largest: int
    zero: float

    @property
    def per_byte(self) -> int:
        """How many codes share one byte; the first is in the lowest bits."""
        return 8 // self.bits

    @property
    def step(self) -> float:
        """The step between two codes over the largest number that one scale can write."""
        return 1 / (self.largest or self.zero)


SCHEMES: Final[dict[str, Scheme]] = {
    "int8": Scheme(bits=8, largest=127, zero=0),
    "int4": Scheme(bits=4, largest=7, zero=8),
    "2bit": Scheme(bits=2, largest=0, zero=1.5),
}
"""Every codec but `fp32`, which writes numbers as they are."""


def scale_count(numbers: int, block: int) -> int:
    """Return how many blocks, and so scales, an array of `numbers` has."""
    return -(-numbers // block)


def packed_bytes(numbers: int, scheme: Scheme) -> int:
    """Return how many bytes the codes of `numbers` numbers take."""
    return -(-numbers // scheme.per_byte)


def parameter_bytes(spec: TensorSpec, codec: CodecName, block: int) -> int:
    """Return the exact size of one encoded parameter: its float16 scales and its codes."""
    numbers = elements(spec)
    if codec == "fp32":
        return 4 * numbers
    return 2 * scale_count(numbers, block) + packed_bytes(numbers, SCHEMES[codec])


def buffer_bytes(spec: TensorSpec) -> int:
    """Return the exact size of one buffer's difference, which no codec makes smaller."""
    return elements(spec) * ITEM_BYTES[BUFFER_DIFFERENCES[spec.dtype]]


def delta_bytes(model: ModelSpec, codec: CodecName, block: int) -> int:
    """Return the exact size of every delta or difference of `model` in this codec."""
    parameters = sum(parameter_bytes(spec, codec, block) for spec in model.parameters)
    return parameters + sum(buffer_bytes(spec) for spec in model.buffers)


def packed_most(size: int) -> int:
    """Return how many bytes a delta or difference of `size` bytes may have on the way.

    They are packed losslessly (`tensors.packing`); what cannot be packed grows by .03 % and 11
    bytes at most, which this rounds up.
    """
    return size + size // 1000 + 64
