"""Every random draw of a unit, made from numpy's raw Philox words by our own formulas.

A stream is the output of Philox 4x64-10 (Salmon et al. 2011) with key = (seed, purpose) and
counter = (0, a, b, 0), words least significant first; numpy adds one to the counter before
each block of four 64-bit words. So any part of a unit can be drawn without the parts
before it, and the draws are equal on every platform and with every version of torch and numpy.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Draws",
    "NodeDraws",
    "Purpose",
    "batch_indices",
    "keep_mask",
    "raw_words",
    "window_starts",
]

_HALF: Final = 2**32


class Purpose(IntEnum):
    """What a stream is for: the second word of its key."""

    ORDER = 1
    WINDOWS = 2
    DROPOUT = 3


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

    The n numbers, in C order, take 32 bits each of the stream (seed, DROPOUT, node, step),
    the lower half of each word first; one below floor(probability * 2^32) is dropped.
    """
    count = int(np.prod(shape))
    words = raw_words(seed, Purpose.DROPOUT, node, step, -(-count // 2))
    halves = words.astype("<u8", copy=False).view("<u4")[:count]
    kept = halves >= np.uint32(min(int(probability * _HALF), _HALF - 1))
    scale = np.float32(1.0 / (1.0 - probability)) if probability < 1 else np.float32(0)
    mask: NDArray[np.float32] = np.multiply(kept, scale, dtype=np.float32).reshape(shape)
    return mask


class Draws(Protocol):
    """What the operators of a graph draw from."""

    def dropout(self, like: torch.Tensor, probability: float, node: int) -> torch.Tensor:
        """Return the mask [*like.shape] that a dropout at `node` multiplies `like` by."""


class NodeDraws:
    """The draws of one local step of a unit."""

    def __init__(self, seed: int, step: int) -> None:
        self._seed = seed
        self._step = step

    def dropout(self, like: torch.Tensor, probability: float, node: int) -> torch.Tensor:
        """Return `keep_mask` as a tensor [*like.shape] of the dtype and device of `like`."""
        mask: NDArray[Any] = keep_mask(self._seed, self._step, node, tuple(like.shape), probability)
        return torch.from_numpy(mask).to(like.device, like.dtype)
