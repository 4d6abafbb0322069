"""From a source's examples to shards: shuffled, split and written in bounded memory, resumable.

First all examples go into piles by a random key (`piles`), then each pile in order into shards. So
the shards are a pure function of the examples, their order and the settings.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from pleb_project.readers.gathered import Gathered
from pleb_project.readers.groups import holdout_quotas
from pleb_project.readers.piles import PILES, Records
from pleb_project.readers.progress import CHECKPOINT_BYTES, Cut
from pleb_project.readers.shards import (
    SHARD_BYTES,
    Dataset,
    equal_parts,
    holdout_count,
    shard_count,
    write_dataset,
    write_shard,
)
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import Dtype, InputSpec, Shard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.progress import Work
    from pleb_system.reading.source import Rows, Source

__all__ = ["write_rows"]

_LARGE_HOLDOUT: Final = 64 * 2**20


def write_rows(
    source: Source, data: DataSection, work: Work, say: Callable[[str], None]
) -> Dataset:
    """Read the source to its end, or go on where an earlier reading stopped, and write the shards.

    Raises:
        InputError: the data cannot be used; the message has the file and the row.
    """
    progress = work.progress
    source.counts.update(progress.counts)
    if source.learn:
        progress.learned = source.learn(progress.learned or None)
        work.save()
    train = Gathered(work, "train", data, source.counts, ordered=False)
    train.read(source.train, say)
    if source.holdout is None:
        quotas = holdout_quotas(train.by_stratum(), train.strata.names, data)
        result = _cut(train, data, quotas, say)
    else:
        kept = Gathered(work, "holdout", data, source.counts, ordered=True)
        kept.read(source.holdout, say)
        if kept.forms.by_name != train.forms.by_name:
            raise InputError(
                f"The holdout has the inputs {kept.forms}, training has {train.forms}: they "
                "must be the same."
            )
        quotas = [0] * len(train.by_stratum())
        result = _cut(train, data, quotas, say)
        result.holdout = _cut(kept, data, kept.by_stratum().tolist(), say).holdout
    if data.shard_by:
        result.train = _interleaved(result.train, _group_sizes(train, data, quotas))
    notes = [*source.notes(), *(f"{text}: {n}" for text, n in source.counts.items())]
    if data.shard_by:
        notes.append(f"shards of one {data.shard_by} each: {len(train.groups.names)} of them")
    size = sum(shard.size for shard in result.holdout)
    if size > _LARGE_HOLDOUT:
        notes.append(f"the holdout has {size / 1e6:.0f} MB, which every evaluation reads")
    inputs = [
        InputSpec(name=name, dtype=cast("Dtype", dtype.name), shape=list(shape))
        for name, (dtype, shape) in train.forms.by_name.items()
    ]
    spec = {"kind": "rows", "inputs": inputs}
    written = write_dataset(work.blobs, spec, result.train, result.holdout, tuple(notes))
    return replace(written, learned=progress.learned)


def _cut(
    examples: Gathered, data: DataSection, quotas: list[int], say: Callable[[str], None]
) -> Cut:
    """Write the examples in the order of their piles and keys as shards of both parts.

    `quotas`: how many examples of each stratum are for the holdout.
    """
    work, piles = examples.work, examples.piles
    if piles is None:  # for the type checker: `read` has raised
        raise InputError("There is no example.")
    state = work.progress.cuts.setdefault(examples.name, Cut(quotas=list(quotas)))
    size, kept = examples.forms.example_bytes(), sum(quotas)
    train = _Cutter(
        examples,
        [n for sizes in _group_sizes(examples, data, quotas) for n in sizes],
        state.train,
        work.folder / f"{examples.name}-train",
    )
    holdout = _Cutter(
        examples,
        equal_parts(kept, holdout_count(kept, size, data.shard_examples)) if kept else [],
        state.holdout,
        work.folder / f"{examples.name}-holdout",
    )
    train.resume(state.pending)
    holdout.resume(state.pending)
    left, since, before = np.array(state.quotas, np.int64), 0, state.pile
    for pile, records in piles.sorted(state.pile):
        if pile != before and since > CHECKPOINT_BYTES:
            state.pile, state.quotas, since = pile, left.tolist(), 0
            train.save(state.pending + 1)
            holdout.save(state.pending + 1)
            state.pending += 1
            work.save()
            written = sum(shard.size for shard in (*state.train, *state.holdout))
            say(f"Wrote {written / 1e9:.1f} GB of shards")
            for done in range(pile):
                piles.drop(done)
        before = pile
        mask = _taken(records["stratum"], left)
        holdout.add(records[mask])
        train.add(records[~mask])
        since += records.nbytes
    return state


def _group_sizes(examples: Gathered, data: DataSection, quotas: list[int]) -> list[list[int]]:
    """Return the sizes of the training shards of each group, in the order of the piles."""
    size = examples.forms.example_bytes()
    if not data.shard_by:
        total = examples.total - sum(quotas)
        return [equal_parts(total, shard_count(total, size, data.shard_examples))] if total else []
    counts = [0] * len(examples.groups.names)
    for (stratum, group), count in examples.joint.items():
        counts[group] += count
        if data.split_by and quotas[stratum]:
            counts[group] -= count
    if not data.split_by:
        # Strata and groups are of one column, and numbered alike.
        counts = [count - quota for count, quota in zip(counts, quotas, strict=True)]
    order = sorted(range(len(counts)), key=lambda number: (number % PILES, number))
    asked = data.shard_examples or max(1, SHARD_BYTES // max(1, size))
    return [
        equal_parts(counts[g], max(1, round(counts[g] / asked))) if counts[g] else [] for g in order
    ]


def _interleaved(shards: list[Shard], sizes: list[list[int]]) -> list[Shard]:
    """Return shards that lie group by group so that neighbours are of different groups."""
    places = [(turn, group) for group, own in enumerate(sizes) for turn in range(len(own))]
    paired = sorted(zip(places, shards, strict=True), key=operator.itemgetter(0))
    return [shard for _, shard in paired]


def _taken(strata: NDArray[np.uint32], left: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of the records are for the holdout [n]; `left` [strata] is lowered by them."""
    order = np.argsort(strata, kind="stable")
    ordered = strata[order]
    ranks = np.arange(len(ordered)) - np.searchsorted(ordered, ordered, side="left")
    mask = np.empty(len(strata), np.bool_)
    mask[order] = ranks < left[ordered]
    left -= np.bincount(strata[mask], minlength=len(left))
    return mask


class _Cutter:
    """Collects records and writes a shard whenever one of the wanted size is full."""

    def __init__(
        self, examples: Gathered, sizes: list[int], shards: list[Shard], file: Path
    ) -> None:
        self._blobs, self._names = examples.work.blobs, list(examples.forms.by_name)
        self._dtype = examples.dtype
        self._sizes, self._shards, self._file = sizes, shards, file
        self._kept: list[Records] = []
        self._count = 0

    def add(self, records: Records) -> None:
        """Take the next records."""
        self._kept.append(records)
        self._count += len(records)
        while len(self._shards) < len(self._sizes) and self._count:
            size = self._sizes[len(self._shards)]
            if self._count < size:
                return
            whole = np.concatenate(self._kept)
            part, rest = whole[:size], whole[size:]
            tensors: Rows = {
                name: np.ascontiguousarray(part[f"i{number}"])
                for number, name in enumerate(self._names)
            }
            self._shards.append(write_shard(self._blobs, tensors, size))
            self._kept, self._count = [rest.copy()], len(rest)

    def save(self, number: int) -> None:
        """Write the records that fill no shard yet, under this number."""
        records = np.concatenate(self._kept) if self._kept else np.empty(0, self._dtype)
        records.tofile(f"{self._file}-{number}")

    def resume(self, number: int) -> None:
        """Take the records that were written under this number."""
        if number:
            self.add(np.fromfile(f"{self._file}-{number}", self._dtype))
