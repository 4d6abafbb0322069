"""Examples between reader and shards: arrays grow in files, so memory stays bounded."""

from __future__ import annotations

import math
from typing import IO, TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pleb_shared.errors import InputError
from pleb_shared.tensors.layout import NUMPY_DTYPES

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Rows", "Spool", "allowed_dtype"]

Rows = dict[str, NDArray[Any]]
"""Arrays by the input's name, whose first dimension counts examples."""

_WIDENED: Final = {
    "f": "float32",
    "i": "int64",
    "u": "int64",
    "b": "bool",
}


def allowed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype in which an array of `dtype` travels, or None where it cannot.

    uint8, int32, int64 and bool stay; other whole numbers become int64, floats float32.
    """
    for allowed in ("uint8", "int32"):
        if dtype == np.dtype(allowed):
            return NUMPY_DTYPES[allowed]
    name = _WIDENED.get(dtype.kind)
    return NUMPY_DTYPES[name] if name else None


class Spool:
    """Collects chunks of rows in files and returns them as memory-mapped arrays.

    Use it as a context manager; the files are in `folder` and are deleted with it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._files: dict[str, IO[bytes]] = {}
        self._forms: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self.examples = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, rows: Rows, place: str) -> None:
        """Add rows; all chunks have the same names, dtypes and shapes of one example.

        Raises:
            InputError: they do not; `place` says where the chunk came from.
        """
        if not self._files:
            self._open(rows, place)
        if rows.keys() != self._forms.keys():
            raise InputError(
                f"{place}: the inputs are {', '.join(sorted(rows))}; before they were "
                f"{', '.join(sorted(self._forms))}. Every example needs the same ones."
            )
        counts = {len(array) for array in rows.values()}
        if len(counts) != 1:
            raise InputError(f"{place}: the arrays have different lengths {sorted(counts)}.")
        for name, array in rows.items():
            dtype, shape = self._forms[name]
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
            self._files[name].write(np.ascontiguousarray(array, dtype).tobytes())
        self.examples += counts.pop()

    def rows(self) -> Rows:
        """Return all rows, mapped from the files, in the order in which they came."""
        found: Rows = {}
        for name, file in self._files.items():
            file.flush()
            dtype, shape = self._forms[name]
            whole = (self.examples, *shape)
            if math.prod(whole) == 0:
                found[name] = np.empty(whole, dtype)
            else:
                found[name] = np.memmap(file.name, dtype, "r", shape=whole)
        return found

    def _open(self, rows: Rows, place: str) -> None:
        for number, (name, array) in enumerate(rows.items()):
            dtype = allowed_dtype(array.dtype) if array.ndim else None
            if dtype is None:
                raise InputError(
                    f"{place}: input {name!r} has dtype {array.dtype}: give numbers (float32, "
                    "int64, int32, uint8 or bool)."
                )
            self._forms[name] = (dtype, array.shape[1:])
            path = self._folder / f"{self._name}-{number}.rows"
            self._files[name] = path.open("wb")
