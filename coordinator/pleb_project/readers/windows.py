"""Text and tokens: one long list of numbers, of which a window is an example.

The list is cut into blocks, which are shuffled before they are cut into shards, so that each shard
is a sample of the whole: the chapters of a text are not alike, and units that train on one chapter
each pull the model apart. A window in which two blocks meet is as good as one in which a document
ends; blocks are so long that these are few. The holdout keeps its order.
"""

from __future__ import annotations

import importlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.lib import format as npy

from pleb_project.readers.files import find_files
from pleb_project.readers.progress import CHECKPOINT_BYTES, Cut
from pleb_project.readers.shards import (
    Dataset,
    holdout_count,
    shard_count,
    write_dataset,
    write_shard,
)
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.progress import Work

__all__ = ["Windows", "block_numbers", "find_windows", "write_windows"]

_BLOCKS: Final = 64
_LEAST_BLOCKS: Final = 8
_WINDOWS_OF_BLOCKS: Final = 64
_WINDOWS_OF_SHORT_BLOCKS: Final = 16
_SHUFFLE: Final = 1
"""Which of the seed's random streams orders the blocks."""
_ENDINGS: Final = {"text": (".txt",), "tokens": (".bin", ".npy")}


class _Piece(NamedTuple):
    """A file's numbers: their dtype, where they begin, and how many there are."""

    path: Path
    dtype: np.dtype[Any]
    offset: int
    numbers: int


@dataclass(frozen=True)
class Windows:
    """Lists of numbers for training and for the holdout (None: the end of the other)."""

    train: list[_Piece] | bytes
    holdout: list[_Piece] | None
    files: list[Path] | None


def find_windows(data: DataSection, folder: Path) -> Windows:
    """Return what `files` and `holdout_files` hold; their numbers are not read yet.

    Raises:
        InputError: a file cannot be read, is empty, or is no list of whole numbers.
    """
    if not data.files:
        return Windows(_builtin_text(), None, None)
    endings = _ENDINGS[data.source]
    files = find_files(data.files, folder, endings)
    kept = find_files(data.holdout_files, folder, endings)
    train = [_piece(path, data) for path in files]
    return Windows(train, [_piece(path, data) for path in kept] if kept else None, [*files, *kept])


def write_windows(
    windows: Windows, data: DataSection, work: Work, say: Callable[[str], None]
) -> Dataset:
    """Write the numbers as shards, those for training shuffled in blocks, with a window at least.

    Raises:
        InputError: there are too few, or a token is not in the vocabulary.
    """
    train = _Numbers(windows.train, data)
    total = train.count
    if windows.holdout is not None:
        rest = _Numbers(windows.holdout, data)
        start, end = 0, rest.count
    else:
        rest, total = train, round(train.count * (1 - data.holdout))
        start, end = total, train.count
    if min(total, end - start) <= data.window:
        what = "text" if data.source == "text" else "list of tokens"
        raise InputError(
            f"The {what} has {total} of them for training and {end - start} for the holdout; "
            f"each needs more than window = {data.window}."
        )
    state = work.progress.cuts.setdefault("windows", Cut())
    size, asked = train.stored.itemsize, data.shard_examples
    cuts = _bounds(0, total, shard_count(total, size, asked), data.window)
    shuffled = _Shuffled(train, total, block_numbers(total // (len(cuts) - 1), data), data.seed)
    for numbers, bounds, shards in (
        (shuffled, cuts, state.train),
        (
            rest,
            _bounds(start, end, holdout_count(end - start, size, asked), data.window),
            state.holdout,
        ),
    ):
        since = 0
        for first, last in list(itertools.pairwise(bounds))[len(shards) :]:
            array = numbers.read(first, last)
            shards.append(write_shard(work.blobs, {"x": array}, last - first - data.window))
            since += array.nbytes
            if since > CHECKPOINT_BYTES:
                since = 0
                say(f"Wrote {last * size / 1e9:.1f} GB")
                work.save()
    inputs = [InputSpec(name=n, dtype="int64", shape=[data.window]) for n in ("x", "y")]
    spec = {"kind": "windows", "window": data.window, "inputs": inputs}
    return write_dataset(work.blobs, spec, state.train, state.holdout)


def _bounds(start: int, end: int, count: int, window: int) -> list[int]:
    """Return where each of about `count` shards begins, and the last one's end."""
    size = end - start
    count = max(1, min(count, size // (window + 1)))
    return [start + size * number // count for number in range(count + 1)]


class _Numbers:
    """Numbers of several files one after the other, read piece by piece."""

    def __init__(self, pieces: list[_Piece] | bytes, data: DataSection) -> None:
        self._pieces = pieces
        self._vocabulary = data.vocabulary if data.source == "tokens" else 256
        self.stored = _stored(self._vocabulary)
        counts = [len(pieces)] if isinstance(pieces, bytes) else [p.numbers for p in pieces]
        self._ends = list(itertools.accumulate(counts))
        self.count = self._ends[-1]

    def read(self, start: int, end: int) -> NDArray[Any]:
        """Return the numbers from `start` to `end` [end - start].

        Raises:
            InputError: a file cannot be read, or a token is not below the vocabulary's size.
        """
        if isinstance(self._pieces, bytes):
            return np.frombuffer(self._pieces[start:end], np.uint8)
        found = np.empty(end - start, self.stored)
        for piece, last in zip(self._pieces, self._ends, strict=True):
            first = last - piece.numbers
            a, b = max(start, first), min(end, last)
            if a < b:
                found[a - start : b - start] = self._from_file(piece, a - first, b - first)
        return found

    def _from_file(self, piece: _Piece, start: int, end: int) -> NDArray[Any]:
        try:
            with piece.path.open("rb") as file:
                file.seek(piece.offset + start * piece.dtype.itemsize)
                array = np.fromfile(file, piece.dtype, end - start)
        except OSError as error:
            raise InputError(f"{piece.path} cannot be read: {error.strerror}.") from error
        if len(array) != end - start:
            raise InputError(f"{piece.path} has become shorter: run the command again.")
        wrong = np.flatnonzero((array < 0) | (array >= self._vocabulary))
        if len(wrong):
            place = start + int(wrong[0])
            raise InputError(
                f"{piece.path}: token {place + 1} is {array[wrong[0]]}, but vocabulary = "
                f"{self._vocabulary} in [data] allows 0 to {self._vocabulary - 1}: correct it, or "
                "dtype."
            )
        return array


def block_numbers(shard: int, data: DataSection) -> int:
    """Return how many numbers are kept together when shards of `shard` numbers are made.

    64 blocks make a shard; fewer, if they would be shorter than 64 windows, but not fewer than 8
    unless they would be shorter than 16 windows.
    """
    least = max(_WINDOWS_OF_SHORT_BLOCKS * data.window, shard // _LEAST_BLOCKS)
    return max(shard // _BLOCKS, min(_WINDOWS_OF_BLOCKS * data.window, least))


class _Shuffled:
    """The first `total` of some numbers in blocks of `block`, in an order that `seed` decides.

    What is left of the last block stays at the end.
    """

    def __init__(self, numbers: _Numbers, total: int, block: int, seed: int) -> None:
        self._numbers, self._total, self._block = numbers, total, block
        words = np.random.Philox(key=[seed, _SHUFFLE]).random_raw(total // block)
        self._order = np.argsort(words, kind="stable")

    def read(self, start: int, end: int) -> NDArray[Any]:
        """Return the numbers from `start` to `end` in the new order [end - start].

        Raises:
            InputError: as `_Numbers.read`.
        """
        parts = []
        while start < end:
            place, inside = divmod(start, self._block)
            if place < len(self._order):
                stop = min(end, start - inside + self._block)
                first = int(self._order[place]) * self._block + inside
            else:
                stop, first = end, start
            parts.append(self._numbers.read(first, first + stop - start))
            start = stop
        return np.concatenate(parts)


def _stored(vocabulary: int) -> np.dtype[Any]:
    """Return the smallest dtype of a shard that holds all tokens."""
    limits = {2**8: "u1", 2**16: "<u2"}
    return np.dtype(next((name for most, name in limits.items() if vocabulary <= most), "<i4"))


def _piece(path: Path, data: DataSection) -> _Piece:
    try:
        size, offset = path.stat().st_size, 0
        dtype: np.dtype[Any] = np.dtype("u1")
        if data.source == "tokens":
            dtype = np.dtype(data.dtype).newbyteorder("<")
        if data.source == "tokens" and path.suffix == ".npy":
            with path.open("rb") as file:
                dtype = _npy_dtype(path, file)
                offset = file.tell()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if size <= offset:
        what = "text" if data.source == "text" else "tokens"
        raise InputError(f"{path} is empty: name a file with {what} in it.")
    count, rest = divmod(size - offset, dtype.itemsize)
    if rest:
        raise InputError(
            f"{path} has {size - offset} bytes, which is not a whole number of {dtype.name}: "
            "check dtype in [data]."
        )
    return _Piece(path, dtype, offset, count)


def _npy_dtype(path: Path, file: Any) -> np.dtype[Any]:
    """Return the dtype of a list of whole numbers, and leave the file at its first one."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    except ValueError as error:
        raise InputError(f"{path} cannot be read as .npy: {error}.") from error
    if len(shape) != 1 or dtype.kind not in "iu":
        raise InputError(f"{path} has {dtype} {list(shape)}: tokens are one list of whole numbers.")
    return dtype


def _builtin_text() -> bytes:
    """Return Python's own help texts (`pydoc_data.topics`) in the order of their names."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "".join(f"{topics[name].strip()}\n\n" for name in sorted(topics)).encode()
