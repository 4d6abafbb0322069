"""Sorting many short columns at once: an odd-even merge network of whole-row minima and maxima.

K deltas give K numbers per coordinate. A sort per coordinate branches on every pair; a network
compares the same pairs of rows whatever they hold, so each step is one vectorised `minimum` and
one `maximum` over thousands of coordinates in a core's cache. On 16 rows that is more than twenty
times as fast as `numpy.median`, and equal to it to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["sort_rows"]

Floats = NDArray[np.float32]

_LARGEST_NETWORK: Final = 1024
"""Rows; beyond that the network's (log K)^2 / 2 steps per row cost more than a sort."""


@dataclass(frozen=True)
class Comparator:
    """Puts the smaller numbers of two rows into row `low`, the larger ones into row `high`."""

    low: int
    high: int
    needs_low: bool
    """Whether anything depends on the smaller numbers."""
    needs_high: bool


def sort_rows(rows: list[Floats], spare: Floats, first: int, last: int) -> list[Floats]:
    """Return rows [n] of which number `first` to `last` hold those ranks of every column.

    Args:
        rows: K rows, each [n] and finite; they are overwritten, the others too.
        spare: one more row [n] to work with.
        first: lowest rank that is needed, from 0.
        last: highest rank that is needed.

    Rows `first` to `last` of the outcome are ascending in every column; the rest is undefined.
    The sign of a zero is not defined either: add 0.0 where it must be.
    """
    if len(rows) > _LARGEST_NETWORK:
        return list(np.sort(np.stack(rows), axis=0))
    wires = list(rows)
    for step in _network(len(rows), first, last):
        low, high = wires[step.low], wires[step.high]
        if step.needs_low and step.needs_high:
            np.minimum(low, high, out=spare)
            np.maximum(low, high, out=high)
            wires[step.low], spare = spare, low
        elif step.needs_low:
            np.minimum(low, high, out=low)
        else:
            np.maximum(low, high, out=high)
    return wires


@cache
def _network(rows: int, first: int, last: int) -> tuple[Comparator, ...]:
    """Return Batcher's network for `rows` rows, less what ranks `first` to `last` do not need."""
    needed = set(range(first, last + 1))
    kept: list[Comparator] = []
    for low, high in reversed(list(_odd_even_merge_sort(rows))):
        if low in needed or high in needed:
            kept.append(Comparator(low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(kept))


def _odd_even_merge_sort(rows: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of Batcher's network (Knuth, volume 3, 5.2.2, algorithm M), smaller first.

    It is the network of the next power of two without the pairs that reach beyond `rows`, as if
    infinite rows followed.
    """
    width = 1 << (rows - 1).bit_length()
    merged = 1
    while merged < width:
        apart = merged
        while apart:
            for start in range(apart % merged, width - apart, 2 * apart):
                for low in range(start, min(start + apart, width - apart)):
                    high = low + apart
                    if low // (2 * merged) == high // (2 * merged) and high < rows:
                        yield low, high
            apart //= 2
        merged *= 2
