"""From rows or text to shards: shuffled, spread evenly, the same for the same seed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import DataSpec, Dtype, InputSpec, Shard, ShardList
from pleb_shared.tensors.layout import save_tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.readers.spool import Rows

__all__ = [
    "Dataset",
    "row_inputs",
    "row_shards",
    "shard_count",
    "split_rows",
    "text_shards",
    "write_dataset",
]

SHARD_BYTES: Final = 4 * 2**20
"""Shards are made no larger than this, unless the project file says so."""
SHARDS_AT_LEAST: Final = 16
"""Fewer shards would give too many hosts the same data in one round."""
EXAMPLES_AT_LEAST: Final = 64
"""Smaller shards are not worth their transfer."""


@dataclass(frozen=True)
class Dataset:
    """A project's data as it is published. `notes` are sentences for the researcher."""

    spec: DataSpec
    shards: ShardList
    notes: tuple[str, ...] = ()

    @property
    def train_examples(self) -> int:
        """Examples for training."""
        return sum(shard.examples for shard in self.shards.train)

    @property
    def holdout_examples(self) -> int:
        """Examples for evaluation."""
        return sum(shard.examples for shard in self.shards.holdout)


def write_dataset(
    blobs: BlobFolder,
    spec: dict[str, Any],
    train: list[Shard],
    holdout: list[Shard],
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Write the list of shards and return the whole; `spec` has the other fields of DataSpec."""
    shards = ShardList(train=train, holdout=holdout)
    return Dataset(DataSpec(**spec, shards=blobs.put(strict_json.encode(shards))), shards, notes)


def split_rows(
    examples: int, holdout: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a seeded permutation of all examples, cut into (training, holdout) indices.

    The generator is Philox, which is counter-based and the same on every platform.

    Raises:
        InputError: there are too few examples for both.
    """
    kept = round(examples * holdout)
    if kept < 1 or examples - kept < 1:
        raise InputError(
            f"{examples} examples cannot be split with holdout = {holdout:g}: add data, or change "
            "holdout in [data]."
        )
    order = np.random.Generator(np.random.Philox(seed)).permutation(examples).astype(np.int64)
    return order[kept:], order[:kept]


def shard_count(examples: int, example_bytes: float, asked: int) -> int:
    """Return into how many shards to cut; `asked` are examples in a shard, 0: choose."""
    if asked:
        return max(1, min(examples, round(examples / asked)))
    by_size = -(-round(examples * example_bytes) // SHARD_BYTES)
    by_count = min(SHARDS_AT_LEAST, examples // EXAMPLES_AT_LEAST)
    return max(1, by_size, by_count)


def row_shards(rows: Rows, order: NDArray[np.int64], asked: int, blobs: BlobFolder) -> list[Shard]:
    """Write the rows `order` [n] as shards whose sizes differ by at most one example.

    `rows` are arrays [examples, ...], mapped from files: only one shard is in memory at a time.
    """
    example_bytes = sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in rows.values())
    count = shard_count(len(order), example_bytes, asked)
    return [
        _write(blobs, {name: np.asarray(a[part]) for name, a in rows.items()}, len(part))
        for part in np.array_split(order, count)
    ]


def row_inputs(rows: Rows) -> list[InputSpec]:
    """Return the specification of the inputs in rows: name, dtype, shape of one example."""
    return [
        InputSpec(
            name=name,
            dtype=cast("Dtype", array.dtype.name),  # one that `allowed_dtype` returns
            shape=[int(n) for n in array.shape[1:]],
        )
        for name, array in rows.items()
    ]


def text_shards(text: NDArray[np.uint8], window: int, asked: int, blobs: BlobFolder) -> list[Shard]:
    """Write contiguous pieces of `text` [n] as shards; each holds at least one window."""
    count = shard_count(text.size, 1, asked)
    count = max(1, min(count, text.size // (window + 1)))
    bounds = [text.size * number // count for number in range(count + 1)]
    return [
        _write(blobs, {"x": np.asarray(text[start:end])}, end - start - window)
        for start, end in itertools.pairwise(bounds)
    ]


def _write(blobs: BlobFolder, tensors: Rows, examples: int) -> Shard:
    data = save_tensors(tensors)
    if len(data) > LIMITS.shard_bytes:
        raise InputError(
            f"A shard would have {len(data)} bytes; at most {LIMITS.shard_bytes} are allowed: "
            "choose a smaller shard_examples in [data]."
        )
    blob = blobs.put(data)
    return Shard(digest=blob.digest, size=blob.size, examples=examples)
