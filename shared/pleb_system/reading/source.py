"""What a reader gives: parts that can be read from any place on, and the form of their examples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pleb_shared.errors import InputError
from pleb_shared.tensors.layout import NUMPY_DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = [
    "EXAMPLE_BYTES",
    "GROUP",
    "START",
    "Chunk",
    "Forms",
    "Part",
    "Position",
    "Rows",
    "Source",
    "allowed_dtype",
    "chunk_examples",
]

Rows = dict[str, NDArray[Any]]
"""Arrays by the input's name, whose first dimension counts examples."""

Position = tuple[int, int]
"""Where a part is read on: what its reader counts by (bytes, rows, files), and the row that is
there, for messages."""

START: Final[Position] = (0, 0)

GROUP: Final = "group:"
"""Before the name of a column that is read only to group examples by it."""

EXAMPLE_BYTES: Final = 64 * 2**20
"""One example is no larger: a file that claims more is broken, or of no use to volunteers."""

_CHUNK_EXAMPLES: Final = 4096
_CHUNK_BYTES: Final = 4 * 2**20

_WIDENED: Final = {"f": "float32", "i": "int64", "u": "int64", "b": "bool"}


class Chunk(NamedTuple):
    """Some examples, and where they came from, for errors.

    `position` is where reading goes on after them; None: it cannot go on here, but after a later
    chunk.
    """

    rows: Rows
    place: str
    position: Position | None


class Part(NamedTuple):
    """A file, or some of a folder. `read` yields its chunks from a position on."""

    name: str
    read: Callable[[Position], Iterator[Chunk]]


@dataclass(frozen=True)
class Source:
    """A project's examples in order.

    `holdout` is None where it is to be split off. `files` are what the examples are made of, and
    nothing else: None where that is not known. `learn` reads what must be known before the first
    example, and returns it for a later run, which gives it back. `notes` returns sentences for
    the researcher; `counts` is how often each of some things happened while reading, by what it is.
    `classes` are the subfolders of a folder, in the order of their numbers.
    """

    train: list[Part]
    holdout: list[Part] | None = None
    files: Sequence[Path] | None = None
    notes: Callable[[], tuple[str, ...]] = tuple
    learn: Callable[[bytes | None], bytes] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


def allowed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype in which an array of `dtype` travels, or None where it cannot.

    uint8, int32, int64 and bool stay; other whole numbers become int64, floats float32.
    """
    for allowed in ("uint8", "int32"):
        if dtype == np.dtype(allowed):
            return NUMPY_DTYPES[allowed]
    name = _WIDENED.get(dtype.kind)
    return NUMPY_DTYPES[name] if name else None


def chunk_examples(example_bytes: int) -> int:
    """Return how many examples of this size to read at once."""
    return min(_CHUNK_EXAMPLES, max(1, _CHUNK_BYTES // max(1, example_bytes)))


class Forms:
    """Names, dtypes and shapes of the inputs: the first chunk sets them, all others must agree."""

    def __init__(self, known: dict[str, tuple[str, list[int]]] | None = None) -> None:
        self.by_name = {
            name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in (known or {}).items()
        }

    def to_json(self) -> dict[str, tuple[str, list[int]]]:
        """Return what the constructor takes."""
        return {name: (dtype.str, list(shape)) for name, (dtype, shape) in self.by_name.items()}

    def example_bytes(self) -> int:
        """Return the size of one example."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.by_name.values())

    def fitted(self, chunk: Chunk) -> tuple[Rows, int]:
        """Return the chunk's arrays in the dtypes in which they travel, and how many examples.

        Raises:
            InputError: they have other names, dtypes or shapes than before, differ in length, or
                hold a number that is not finite; the message has the chunk's place.
        """
        rows, place = chunk.rows, chunk.place
        if not self.by_name:
            self.by_name = {name: _form(name, array, place) for name, array in rows.items()}
            if self.example_bytes() > EXAMPLE_BYTES:
                raise InputError(
                    f"{place}: an example has {self.example_bytes()} bytes; at most "
                    f"{EXAMPLE_BYTES} are read: make it smaller."
                )
        if rows.keys() != self.by_name.keys():
            raise InputError(
                f"{place}: the inputs are {', '.join(sorted(rows))}; before they were "
                f"{', '.join(sorted(self.by_name))}. Every example needs the same ones."
            )
        counts = {len(array) for array in rows.values()}
        if len(counts) != 1:
            raise InputError(f"{place}: the arrays have different lengths {sorted(counts)}.")
        return {n: self._fitted(n, array, place) for n, array in rows.items()}, counts.pop()

    def __str__(self) -> str:
        """Return name, dtype and shape of one example of each input."""
        return ", ".join(f"{n} {d} {list(shape)}" for n, (d, shape) in self.by_name.items())

    def _fitted(self, name: str, array: NDArray[Any], place: str) -> NDArray[Any]:
        dtype, shape = self.by_name[name]
        if array.shape[1:] != shape or allowed_dtype(array.dtype) != dtype:
            raise InputError(
                f"{place}: input {name!r} is {array.dtype} {list(array.shape[1:])}; before it "
                f"was {dtype} {list(shape)}. Every example needs the same form."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise InputError(
                f"{place}: input {name!r} of example {row + 1} there is not a finite number: "
                "clean the data or leave the example out."
            )
        return array.astype(dtype, copy=False)


def _form(name: str, array: NDArray[Any], place: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    dtype = allowed_dtype(array.dtype) if array.ndim else None
    if dtype is None:
        raise InputError(
            f"{place}: input {name!r} has dtype {array.dtype}: give numbers (float32, "
            "int64, int32, uint8 or bool)."
        )
    return dtype, array.shape[1:]
