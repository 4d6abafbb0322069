"""Sorting more records than memory holds: scattered over piles on disk, each sorted by itself.

Every record has a `pile` (uint8) and a `key` (uint64); they come back in the order of (pile, key),
equal ones as they came. With random keys this is a uniform shuffle (Rao 1961, Sanders 1998). What
comes back does not depend on how much was in memory, nor on how often the work was interrupted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["PILES", "Piles", "Records"]

Records = NDArray[Any]
"""A structured array [n] with the fields `pile` and `key`."""

PILES: Final = 256
MEMORY_BYTES: Final = 24 * 2**20
"""A pile is sorted whole up to this size; half as much waits in memory for the piles, since they
are sorted by pile in a copy."""
_YIELDED_BYTES: Final = 4 * 2**20
_FANOUT: Final = 64


class Piles:
    """Records in `folder`, in files whose names begin with `name`.

    `lengths`: how many records the pile files had at a `checkpoint`; what was written after it is
    cut off.
    """

    def __init__(
        self, folder: Path, name: str, dtype: np.dtype[Any], lengths: Sequence[int] = ()
    ) -> None:
        self._folder, self._name, self._dtype = folder, name, dtype
        self._lengths = list(lengths) or [0] * PILES
        self._kept: list[Records] = []
        self._kept_bytes = 0
        for pile, length in enumerate(self._lengths):
            path = self._path(pile)
            if path.exists():
                os.truncate(path, length * dtype.itemsize)

    def add(self, records: Records) -> None:
        """Take records in the order in which equal ones come back."""
        self._kept.append(records)
        self._kept_bytes += records.nbytes
        if self._kept_bytes > MEMORY_BYTES // 2:
            self._scatter()

    def checkpoint(self) -> list[int]:
        """Write everything to the disk and return the lengths of the piles."""
        self._scatter()
        for pile in range(PILES):
            if self._lengths[pile]:
                with self._path(pile).open("rb") as file:
                    os.fsync(file.fileno())
        return list(self._lengths)

    def sorted(self, first: int = 0) -> Iterator[tuple[int, Records]]:
        """Yield (pile, records) in order, from pile `first` on; a pile may come in pieces."""
        if any(self._lengths):
            self._scatter()
            for pile in range(first, PILES):
                if self._lengths[pile]:
                    for records in self._in_order(self._path(pile)):
                        yield pile, records
        elif self._kept:
            whole = np.concatenate(self._kept)
            order = np.lexsort((whole["key"], whole["pile"]))
            ends = np.searchsorted(whole["pile"][order], np.arange(PILES), side="right")
            for pile in np.unique(whole["pile"]).tolist():
                start = int(ends[pile - 1]) if pile else 0
                for records in self._pieces(whole, order[start : ends[pile]]):
                    yield pile, records

    def drop(self, pile: int) -> None:
        """Delete a pile that is not needed any more."""
        self._path(pile).unlink(missing_ok=True)

    def _path(self, pile: int) -> Path:
        return self._folder / f"{self._name}-{pile:03}.pile"

    def _scatter(self) -> None:
        if self._kept:
            records = np.concatenate(self._kept)
            self._kept, self._kept_bytes = [], 0
            for pile, count in _append(records, records["pile"], self._path):
                self._lengths[pile] += count

    def _in_order(self, path: Path) -> Iterator[Records]:
        """Yield the records of a file by their keys.

        One that is too large for memory is cut at quantiles of its keys into files beside it.
        """
        size = path.stat().st_size
        if size <= MEMORY_BYTES:
            records = np.fromfile(path, self._dtype)
            yield from self._pieces(records, np.argsort(records["key"], kind="stable"))
            return
        cuts = self._quantiles(path, min(_FANOUT, 2 * size // MEMORY_BYTES + 1))
        if not len(cuts):  # all keys are equal
            yield from self._stream(path)
            return

        def part(number: int) -> Path:
            return path.with_name(f"{path.name}.{number:02}")

        for number in range(len(cuts) + 1):
            part(number).unlink(missing_ok=True)  # of a run that was interrupted
        for records in self._stream(path):
            _append(records, np.searchsorted(cuts, records["key"], side="right"), part)
        for number in range(len(cuts) + 1):
            if part(number).exists():
                yield from self._in_order(part(number))
                part(number).unlink()

    def _quantiles(self, path: Path, parts: int) -> NDArray[np.uint64]:
        """Return up to `parts` - 1 keys that cut the file's records into about equal parts.

        There is at least one unless all keys are equal.
        """
        every = max(1, path.stat().st_size // self._dtype.itemsize // 100_000)
        first, last, samples = np.uint64(2**64 - 1), np.uint64(0), []
        for records in self._stream(path):
            keys = records["key"]
            first, last = min(first, keys.min()), max(last, keys.max())
            samples.append(keys[::every].copy())  # a view would keep the records in memory
        sample = np.sort(np.concatenate(samples))
        places = np.linspace(0, len(sample), parts, endpoint=False, dtype=int)
        cuts: NDArray[np.uint64] = np.unique(sample[places][sample[places] > first])
        return cuts if len(cuts) or first == last else np.array([last], np.uint64)

    def _stream(self, path: Path) -> Iterator[Records]:
        count = max(1, _YIELDED_BYTES // self._dtype.itemsize)
        with path.open("rb") as file:
            while len(records := np.fromfile(file, self._dtype, count)):
                yield records

    def _pieces(self, records: Records, order: NDArray[np.int64]) -> Iterator[Records]:
        count = max(1, _YIELDED_BYTES // self._dtype.itemsize)
        for start in range(0, len(order), count):
            yield records[order[start : start + count]]


def _append(
    records: Records, numbers: NDArray[Any], path: Callable[[int], Path]
) -> list[tuple[int, int]]:
    """Append each record to the file `path(its number)`; return (number, how many) of each."""
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    ends = [*starts[1:].tolist(), len(records)]
    for number, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True):
        with path(number).open("ab") as file:
            records[order[start:end]].tofile(file)
    return [(n, e - s) for n, s, e in zip(found.tolist(), starts.tolist(), ends, strict=True)]
