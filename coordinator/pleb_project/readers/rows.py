"""From a source's examples to shards: shuffled, split and written in bounded memory, resumable.

First all examples go into piles by a random key (`piles`), then each pile in order into shards. So
the shards are a pure function of the examples, their order and the settings.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from pleb_project.readers.groups import Groups, group_columns, holdout_quotas, take_column
from pleb_project.readers.piles import PILES, Piles, Records
from pleb_project.readers.progress import CHECKPOINT_BYTES, Cut, Read
from pleb_project.readers.shards import (
    Dataset,
    equal_parts,
    holdout_count,
    shard_count,
    write_dataset,
    write_shard,
)
from pleb_project.readers.source import START, Chunk, Forms, Part, Rows
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import Dtype, InputSpec, Shard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.progress import Work
    from pleb_project.readers.source import Source

__all__ = ["write_rows"]

_HEAD: Final = [("pile", "u1"), ("key", "<u8"), ("stratum", "<u4"), ("group", "<u4")]
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
    train = _Examples(work, "train", data, source.counts, ordered=False)
    train.read(source.train, say)
    quotas = [0] * max(1, len(train.strata.names))
    if source.holdout is None:
        quotas = holdout_quotas(train.by_stratum(), train.strata.names, data)
    result = _cut(train, data, quotas)
    if source.holdout is not None:
        kept = _Examples(work, "holdout", data, source.counts, ordered=True)
        kept.read(source.holdout, say)
        if kept.forms.by_name != train.forms.by_name:
            raise InputError(
                f"The holdout has the inputs {kept.forms}, training has {train.forms}: they "
                "must be the same."
            )
        result.holdout = _cut(kept, data, kept.by_stratum().tolist()).holdout
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
    return write_dataset(work.blobs, spec, result.train, result.holdout, tuple(notes))


class _Examples:
    """One of the two sets of examples (`name`), on its way into piles."""

    def __init__(
        self, work: Work, name: str, data: DataSection, counts: dict[str, int], *, ordered: bool
    ) -> None:
        self.work, self.name, self._data, self._ordered = work, name, data, ordered
        self._counts = counts
        self.state = state = work.progress.reads.setdefault(name, Read())
        self.forms = Forms(state.forms)
        # A stratum is what the holdout gets a share of, or all.
        self.strata = Groups(data.split_by or data.stratify_by or data.shard_by, state.strata)
        self.groups = Groups(data.shard_by, state.groups)
        self.joint = {
            (int(a), int(b)): count
            for key, count in state.counts.items()
            for a, b in [key.split(",")]
        }
        self.total = state.examples
        self.piles: Piles | None = None
        if self.forms.by_name:
            self.piles = Piles(work.folder, name, self.dtype, state.lengths)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of a record: input i is the field `i` and its number."""
        fields = [
            (f"i{number}", dtype, shape)
            for number, (dtype, shape) in enumerate(self.forms.by_name.values())
        ]
        return np.dtype([*_HEAD, *fields])

    def by_stratum(self) -> NDArray[np.int64]:
        """Return how many examples each stratum has."""
        counts = np.zeros(max(1, len(self.strata.names)), np.int64)
        for (stratum, _), count in self.joint.items():
            counts[stratum] += count
        return counts

    def read(self, parts: list[Part], say: Callable[[str], None]) -> None:
        """Put the examples of all parts into piles, from where an earlier reading stopped."""
        state, since = self.state, 0
        if state.done:
            return
        for number in range(state.part, len(parts)):
            position = state.position if number == state.part else START
            for chunk in parts[number].read(position):
                since += self._add(chunk)
                if since > CHECKPOINT_BYTES and chunk.position:
                    since = 0
                    size = self.total * self.dtype.itemsize
                    say(f"Read {size / 1e9:.1f} GB of examples, up to {chunk.place}")
                    self._checkpoint(number, chunk.position)
        if not self.total:
            place = parts[-1].name if parts else "the data"
            raise InputError(f"There is no example in {place}: check files in [data].")
        if state.examples:  # it is so much that an interruption is worth going on after
            state.done = True
            self._checkpoint(len(parts), START)

    def _checkpoint(self, part: int, position: tuple[int, int]) -> None:
        state, piles = self.state, self.piles
        state.part, state.position, state.examples = part, position, self.total
        state.forms, state.lengths = self.forms.to_json(), piles.checkpoint() if piles else []
        state.strata, state.groups = self.strata.names, self.groups.names
        state.counts = {f"{a},{b}": count for (a, b), count in self.joint.items()}
        self.work.progress.counts = dict(self._counts)
        self.work.save()

    def _add(self, chunk: Chunk) -> int:
        """Put a chunk into the piles and return its bytes."""
        data = self._data
        columns = {
            name: take_column(chunk, name, keep=name == data.stratify_by)
            for name in group_columns(data)
        }
        stratum: Any = 0
        group: Any = 0
        if self.strata.column:
            stratum = self.strata.numbers(columns[self.strata.column], chunk.place)
        if data.shard_by:
            group = self.groups.numbers(columns[data.shard_by], chunk.place)
        for name in data.drop:
            chunk.rows.pop(name, None)
        rows, count = self.forms.fitted(chunk)
        if not count:
            return 0
        if self.piles is None:
            self.piles = Piles(self.work.folder, self.name, self.dtype)
        records = np.empty(count, self.dtype)
        records["stratum"], records["group"] = stratum, group
        records["pile"], records["key"] = self._places(count, records["group"])
        for field, array in zip(records.dtype.names[len(_HEAD) :], rows.values(), strict=True):
            records[field] = array
        self.piles.add(records)
        self.total += count
        pairs = records["stratum"].astype(np.uint64) << np.uint64(32) | records["group"]
        for pair, many in zip(*np.unique(pairs, return_counts=True), strict=True):
            key = (int(pair) >> 32, int(pair) & 0xFFFFFFFF)
            self.joint[key] = self.joint.get(key, 0) + int(many)
        return records.nbytes

    def _places(
        self, count: int, groups: NDArray[np.uint32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """Return the piles and keys of the next `count` examples."""
        if self._ordered:
            keys = np.arange(self.total, self.total + count, dtype=np.uint64)
            return np.minimum(keys >> np.uint64(16), PILES - 1).astype(np.uint8), keys
        block, skipped = divmod(self.total, 4)  # Philox makes four words at a time
        generator = np.random.Philox(key=[self._data.seed, 0], counter=[block, 0, 0, 0])
        words = generator.random_raw(skipped + count)[skipped:]
        if not self._data.shard_by:
            return (words >> np.uint64(56)).astype(np.uint8), words
        return (groups % PILES).astype(np.uint8), (
            groups.astype(np.uint64) << np.uint64(32) | words >> np.uint64(32)
        )


def _cut(examples: _Examples, data: DataSection, quotas: list[int]) -> Cut:
    """Write the examples in the order of their piles and keys as shards of both parts."""
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
            for done in range(pile):
                piles.drop(done)
        before = pile
        mask = _taken(records["stratum"], left)
        holdout.add(records[mask])
        train.add(records[~mask])
        since += records.nbytes
    return state


def _group_sizes(examples: _Examples, data: DataSection, quotas: list[int]) -> list[list[int]]:
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
        # Strata and groups are of one column, but are numbered apart.
        for name, quota in zip(examples.strata.names, quotas, strict=True):
            counts[examples.groups.names.index(name)] -= quota
    order = sorted(range(len(counts)), key=lambda number: (number % PILES, number))
    asked = data.shard_examples or max(1, 4 * 2**20 // max(1, size))
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
        self, examples: _Examples, sizes: list[int], shards: list[Shard], file: Path
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
