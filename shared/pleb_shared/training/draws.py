"""Every random draw of a unit, made from numpy's raw Philox words by our own formulas.

A stream is the output of Philox 4x64-10 (Salmon et al. 2011) with key = (seed, purpose) and
counter = (0, a, b, 0), words least significant first; numpy adds one to the counter before
each block of four 64-bit words. So any part of a unit can be drawn without the parts
before it, and the draws are equal on every platform and with every version of torch and numpy.

Normal and exponential numbers are equal to the bit, too: their formulas are those of
`tensors.elementary`, and rejection would draw more often for some numbers.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import torch

from pleb_shared.tensors.elementary import logarithm, polynomial

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Draws",
    "Form",
    "NodeDraws",
    "Purpose",
    "batch_indices",
    "exponentials",
    "integers",
    "keep_mask",
    "normals",
    "permutation",
    "raw_words",
    "uniforms",
    "window_starts",
]

_HALF: Final = 2**32
_BLOCK: Final = 2**15
"""Numbers computed at a time, so that the steps of a formula stay in the processor's cache."""
_BITS: Final = {torch.float64: 32, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
"""Bits of a uniform number, by its type: as many as it represents exactly, 32 at most."""
_MIDDLE: Final = (
    (59.109374720, 159.29113202, 50.434271938, 3.3871327179),
    (67.187563600, 78.757757664, 17.895169469, 1.0),
)
_TAIL: Final = (
    (0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777),
    (0.12021132975, 0.73700164250, 1.0),
)
"""Coefficients of Wichura's PPND7, highest power first: numerator, then denominator."""


class Purpose(IntEnum):
    """What a stream is for: the second word of its key."""

    ORDER = 1
    WINDOWS = 2
    NODE = 3


def raw_words(seed: int, purpose: Purpose, a: int, b: int, count: int) -> NDArray[np.uint64]:
    """Return the first `count` 64-bit words of the stream (seed, purpose, a, b)."""
    key = np.array([seed, purpose], np.uint64)
    counter = np.array([0, a, b, 0], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def batch_indices(seed: int, step: int, batch: int, examples: int) -> NDArray[np.int64]:
    """Return which of the unit's `examples` make the batch of local step `step`: int64 [batch].

    The examples are visited in one permutation after the other; a batch may span two of them.
    Permutation e is the stable ascending order of the first `examples` words of the stream
    (seed, ORDER, e, 0).
    """
    positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    rounds, places = positions // examples, positions % examples
    indices = np.empty(batch, np.int64)
    for number in range(int(rounds[0]), int(rounds[-1]) + 1):
        here = rounds == number
        indices[here] = _permutation(seed, number, examples)[places[here]]
    return indices


@lru_cache(maxsize=2)
def _permutation(seed: int, number: int, examples: int) -> NDArray[np.int64]:
    words = raw_words(seed, Purpose.ORDER, number, 0, examples)
    return np.argsort(words, kind="stable").astype(np.int64)


def window_starts(seed: int, step: int, batch: int, windows: int) -> NDArray[np.int64]:
    """Return which of `windows` windows (below 2^32) make the batch of `step`: int64 [batch].

    Word i of the stream (seed, WINDOWS, 0, step) gives (its upper 32 bits * windows) >> 32.
    """
    words = raw_words(seed, Purpose.WINDOWS, 0, step, batch)
    return ((words >> np.uint64(32)) * np.uint64(windows) >> np.uint64(32)).astype(np.int64)


def keep_mask(
    seed: int, step: int, node: int, shape: tuple[int, ...], probability: float
) -> NDArray[np.float32]:
    """Return a dropout mask as float32 `shape`: 0 with `probability`, else 1 / (1 - probability).

    Its numbers in C order take a half each; one below floor(probability * 2^32) is dropped.
    """
    halves = _halves(seed, step, node, math.prod(shape))
    kept = halves >= np.uint32(min(int(probability * _HALF), _HALF - 1))
    scale = np.float32(1.0 / (1.0 - probability)) if probability < 1 else np.float32(0)
    mask: NDArray[np.float32] = np.multiply(kept, scale, dtype=np.float32).reshape(shape)
    return mask


def _halves(seed: int, step: int, node: int, count: int) -> NDArray[np.uint32]:
    """Return the first `count` halves of the stream (seed, NODE, node, step).

    Each word gives two numbers of 32 bits, its lower half first.
    """
    words = raw_words(seed, Purpose.NODE, node, step, -(-count // 2))
    return words.astype("<u8", copy=False).view("<u4")[:count]


def uniforms(seed: int, step: int, node: int, count: int, bits: int) -> NDArray[Any]:
    """Return numbers in [0, 1), [count]: the upper `bits` of a half each, times 2^-bits.

    They are float32, which holds up to 24 bits, or float64.
    """
    halves = _halves(seed, step, node, count) >> np.uint32(32 - bits)
    exact: type[np.floating[Any]] = np.float32 if bits <= 24 else np.float64
    numbers = halves.astype(exact)
    numbers *= 2.0**-bits
    return numbers


def integers(seed: int, step: int, node: int, count: int, low: int, high: int) -> NDArray[np.int64]:
    """Return whole numbers in [low, high), at most 2^32 of them: int64 [count].

    A half h gives low + ((h * (high - low)) >> 32).
    """
    halves = _halves(seed, step, node, count).astype(np.uint64)
    return ((halves * np.uint64(high - low)) >> np.uint64(32)).astype(np.int64) + low


def permutation(seed: int, step: int, node: int, count: int) -> NDArray[np.int64]:
    """Return the stable ascending order of the first `count` words of the node: int64 [count]."""
    words = raw_words(seed, Purpose.NODE, node, step, count)
    return np.argsort(words, kind="stable").astype(np.int64)


def exponentials(seed: int, step: int, node: int, count: int) -> NDArray[np.float64]:
    """Return exponential numbers of rate 1: float64 [count], -ln((h + 1/2) / 2^32) of a half h."""
    halves = _halves(seed, step, node, count)
    found = np.empty(count)
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        found[part] = -logarithm((halves[part] + 0.5) / _HALF)
    return found


def normals(seed: int, step: int, node: int, count: int) -> NDArray[np.float32]:
    """Return standard normal numbers: float32 [count], the quantile at (h + 1/2) / 2^32 of a half.

    Wichura 1988 (algorithm AS 241, PPND7), within 1e-6 of the quantile; none lies beyond 6.4.
    The middle 85 % are computed in float32, q = (float32(h - 2^31) + 1/2) / 2^32, the others
    (q^2 > 0.180625 in float32) in float64 from the distance to the nearer end.
    """
    halves = _halves(seed, step, node, count)
    found = np.empty(count, np.float32)
    for start in range(0, count, _BLOCK):
        here, block = halves[start : start + _BLOCK], found[start : start + _BLOCK]
        q = (here ^ np.uint32(_HALF // 2)).view(np.int32).astype(np.float32)
        q += np.float32(0.5)
        q *= np.float32(1 / _HALF)
        r = np.float32(0.180625) - q * q
        np.multiply(q, polynomial(_MIDDLE[0], r), out=block)
        block /= polynomial(_MIDDLE[1], r)
        outer = np.flatnonzero(r < 0)
        ends = here[outer]
        p = (np.minimum(ends, ~ends) + 0.5) / _HALF
        s = np.sqrt(-logarithm(p))
        s -= 1.6
        tail = polynomial(_TAIL[0], s) / polynomial(_TAIL[1], s)
        block[outer] = np.copysign(tail, q[outer])
    return found


class Draws(Protocol):
    """What the operators of a graph draw from: tensors of any shape, by the number of a node."""

    def dropout(self, like: torch.Tensor, probability: float, node: int) -> torch.Tensor:
        """Return the mask [*like.shape] that a dropout at `node` multiplies `like` by."""

    def uniform(self, form: Form, node: int) -> torch.Tensor:
        """Return `uniforms` with as many bits as the type represents."""

    def normal(self, form: Form, node: int) -> torch.Tensor:
        """Return `normals`."""

    def exponential(self, form: Form, node: int) -> torch.Tensor:
        """Return `exponentials`."""

    def integers(self, form: Form, low: int, high: int, node: int) -> torch.Tensor:
        """Return `integers` in [low, high)."""

    def permutation(self, form: Form, node: int) -> torch.Tensor:
        """Return `permutation`; the form has one dimension."""

    def require(self, condition: torch.Tensor, sentence: str) -> None:
        """Raise ValueError(sentence) unless `condition`, of any shape, is true everywhere."""


class Form(NamedTuple):
    """The form of a tensor that is drawn; numbers fill it in C order."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class NodeDraws:
    """The draws of one local step of a unit, or of one batch of an evaluation."""

    def __init__(self, seed: int, step: int) -> None:
        self._seed = seed
        self._step = step

    def dropout(self, like: torch.Tensor, probability: float, node: int) -> torch.Tensor:
        """Return `keep_mask` as a tensor [*like.shape] of the dtype and device of `like`."""
        mask: NDArray[Any] = keep_mask(self._seed, self._step, node, tuple(like.shape), probability)
        return torch.from_numpy(mask).to(like.device, like.dtype)

    def uniform(self, form: Form, node: int) -> torch.Tensor:
        """Return `uniforms` [*form.shape]."""
        count, bits = math.prod(form.shape), _BITS[form.dtype]
        return _tensor(uniforms(self._seed, self._step, node, count, bits), form)

    def normal(self, form: Form, node: int) -> torch.Tensor:
        """Return `normals` [*form.shape]."""
        return _tensor(normals(self._seed, self._step, node, math.prod(form.shape)), form)

    def exponential(self, form: Form, node: int) -> torch.Tensor:
        """Return `exponentials` [*form.shape]."""
        return _tensor(exponentials(self._seed, self._step, node, math.prod(form.shape)), form)

    def integers(self, form: Form, low: int, high: int, node: int) -> torch.Tensor:
        """Return `integers` in [low, high), [*form.shape]."""
        count = math.prod(form.shape)
        return _tensor(integers(self._seed, self._step, node, count, low, high), form)

    def permutation(self, form: Form, node: int) -> torch.Tensor:
        """Return `permutation` [n], the form's shape."""
        return _tensor(permutation(self._seed, self._step, node, form.shape[0]), form)

    def require(self, condition: torch.Tensor, sentence: str) -> None:
        """Raise ValueError(sentence) unless `condition`, of any shape, is true everywhere."""
        if not bool(condition.all()):
            raise ValueError(sentence)


def _tensor(array: NDArray[Any], form: Form) -> torch.Tensor:
    """Return `array` [n] in its form; its dtype is that of the form, rounded to nearest."""
    return torch.from_numpy(array.reshape(form.shape)).to(form.dtype).to(form.device)
