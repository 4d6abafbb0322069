"""Shards: how many, how large, and their writing as blobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import DataSpec, Shard, ShardList
from pleb_shared.tensors.layout import save_tensors

if TYPE_CHECKING:
    from pleb_project.readers.blobs import BlobFolder
    from pleb_system.reading.source import Rows

__all__ = [
    "SHARD_BYTES",
    "Dataset",
    "equal_parts",
    "holdout_count",
    "shard_count",
    "write_dataset",
    "write_shard",
]

SHARD_BYTES: Final = 4 * 2**20
"""Shards are made no larger than this while there are fewer than `SHARDS_AT_MOST`."""
SHARDS_AT_MOST: Final = 4096
"""More would make the list of shards, which every agent reads, too long."""
SHARDS_AT_LEAST: Final = 16
"""Fewer shards would give too many hosts the same data in one round."""
EXAMPLES_AT_LEAST: Final = 64
"""Smaller shards are not worth their transfer."""


@dataclass(frozen=True)
class Dataset:
    """A project's data as it is published. `notes` are sentences for the researcher.

    `learned`: what a table's first reading found.
    """

    spec: DataSpec
    shards: ShardList
    notes: tuple[str, ...] = ()
    learned: bytes = b""

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


def shard_count(examples: int, example_bytes: float, asked: int) -> int:
    """Return into how many shards to cut; `asked` are examples in a shard, 0: choose."""
    if asked:
        return max(1, min(examples, round(examples / asked)))
    by_size = -(-round(examples * example_bytes) // SHARD_BYTES)
    by_count = min(SHARDS_AT_LEAST, examples // EXAMPLES_AT_LEAST)
    return max(1, min(by_size, SHARDS_AT_MOST), by_count)


def holdout_count(examples: int, example_bytes: float, asked: int) -> int:
    """Return into how many shards to cut a holdout, which one PC reads whole: as few as fit."""
    if asked:
        return shard_count(examples, example_bytes, asked)
    return max(1, -(-round(examples * example_bytes) // SHARD_BYTES))


def equal_parts(total: int, count: int) -> list[int]:
    """Return `count` sizes that differ by at most one, the larger ones first."""
    size, more = divmod(total, count)
    return [size + (number < more) for number in range(count)]


def write_shard(blobs: BlobFolder, tensors: Rows, examples: int) -> Shard:
    """Write a shard and return its entry in the list.

    Raises:
        InputError: it is too large.
    """
    data = save_tensors(tensors)
    if len(data) > LIMITS.shard_bytes:
        raise InputError(
            f"A shard would have {len(data)} bytes; at most {LIMITS.shard_bytes} are allowed: "
            "choose a smaller shard_examples in [data]."
        )
    blob = blobs.put(data)
    return Shard.of(blob, examples)
