"""A set of examples on its way into piles: grouped, counted, and where reading goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_project.readers.groups import Groups, group_columns, take_column
from pleb_project.readers.piles import PILES, Piles
from pleb_project.readers.progress import CHECKPOINT_BYTES, Read
from pleb_shared.errors import InputError
from pleb_system.reading.source import START, Chunk, Forms, Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.progress import Work

__all__ = ["Gathered"]

_HEAD: Final = [("pile", "u1"), ("key", "<u8"), ("stratum", "<u4"), ("group", "<u4")]
"""The fields of a record before its inputs."""


class Gathered:
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
                    say(f"Read {size / 1e9:.1f} GB of examples, the last of {chunk.place}")
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
