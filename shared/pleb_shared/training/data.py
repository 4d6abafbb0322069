"""A unit's examples: its shards in memory, and batches of them as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pleb_shared.errors import EncodingError, RefusalCode
from pleb_shared.tensors.layout import NUMPY_DTYPES, Tensors
from pleb_shared.training.draws import batch_indices, window_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pleb_shared.protocol.project import DataSpec

__all__ = ["UnitData"]


class UnitData:
    """The examples of a unit's shards, numbered consecutively in the order of the shards.

    Each of `shards` maps input names to arrays: [examples, *shape] for rows, or one flat array
    [length] for windows. They are asked for one by one, so the sequence may read each only then.

    Raises:
        EncodingError: a shard does not match the data specification, or all are empty.
    """

    def __init__(self, spec: DataSpec, shards: Sequence[Tensors]) -> None:
        self._spec = spec
        self._shards = shards
        counts = [_examples(spec, shard) for shard in shards]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self.examples = int(sum(counts))
        if not 0 < self.examples < 2**32:
            message = (
                f"The unit's shards hold {self.examples} examples: 1 to 2^32 - 1 are supported."
            )
            raise EncodingError(RefusalCode.WRONG_SHAPE, message)

    def training_batch(self, seed: int, step: int, batch: int) -> Tensors:
        """Return the inputs of local step `step`: arrays [batch, *shape] by name.

        Rows are visited in permutations; windows start at any offset.
        """
        draw = batch_indices if self._spec.kind == "rows" else window_starts
        return self.take(draw(seed, step, batch, self.examples))

    def evaluation_batches(self, batch: int) -> Iterator[Tensors]:
        """Yield every row once, or windows side by side; the last batch may be shorter."""
        chosen = np.arange(self.examples, dtype=np.int64)
        if self._spec.kind == "windows":
            starts = np.concatenate(([0], self._ends[:-1]))
            pairs = zip(starts, self._ends, strict=True)
            parts = [np.arange(start, end, self._spec.window) for start, end in pairs]
            chosen = np.concatenate(parts).astype(np.int64)
        for start in range(0, len(chosen), batch):
            yield self.take(chosen[start : start + batch])

    def take(self, indices: NDArray[np.int64]) -> Tensors:
        """Return the inputs of the examples `indices` [n]: arrays [n, *shape] by name."""
        batch = {
            spec.name: np.empty((len(indices), *spec.shape), NUMPY_DTYPES[spec.dtype])
            for spec in self._spec.inputs
        }
        where = np.searchsorted(self._ends, indices, side="right")
        for number in np.unique(where):
            rows, shard = where == number, self._shards[number]
            inside = indices[rows] - (self._ends[number - 1] if number else 0)
            for place, spec in enumerate(self._spec.inputs):
                if self._spec.kind == "rows":
                    batch[spec.name][rows] = shard[spec.name][inside]
                else:  # input 1, if there is one, is a window one further than input 0
                    window = inside[:, None] + np.arange(place, place + self._spec.window)
                    batch[spec.name][rows] = shard[self._spec.inputs[0].name][window]
        return batch


def _examples(spec: DataSpec, shard: Tensors) -> int:
    """Check a shard's arrays and return how many examples it holds.

    Rows: each array is [examples, *shape]. Windows: one flat array [length], which holds
    length - window examples.
    """
    if spec.kind == "windows":
        if len(spec.inputs) > 2 or any(i.shape != [spec.window] for i in spec.inputs):
            raise _wrong("windows data has one or two inputs, each of shape [window]")
        array = _array(shard, spec.inputs[0].name)
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            raise _wrong(f"{spec.inputs[0].name!r} is not a list of numbers")
        return max(0, int(array.shape[0]) - spec.window)
    counts: set[int] = set()
    for wanted in spec.inputs:
        array = _array(shard, wanted.name)
        if array.dtype != NUMPY_DTYPES[wanted.dtype] or list(array.shape[1:]) != wanted.shape:
            raise _wrong(
                f"{wanted.name!r} is {array.dtype} {list(array.shape)}, "
                f"not {wanted.dtype} [n, {', '.join(map(str, wanted.shape))}]"
            )
        counts.add(array.shape[0])
    if len(counts) != 1:
        raise _wrong("its arrays have different lengths")
    return counts.pop()


def _array(shard: Tensors, name: str) -> NDArray[Any]:
    """Return the shard's array `name`, [examples, *shape] or flat [length]."""
    if name not in shard:
        raise _wrong(f"it has no array {name!r}")
    return shard[name]


def _wrong(reason: str) -> EncodingError:
    return EncodingError(
        RefusalCode.WRONG_SHAPE, f"A shard does not fit the project's data: {reason}."
    )
