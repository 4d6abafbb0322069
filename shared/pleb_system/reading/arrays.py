"""`.npz` and `.npy` files: every array is an input; its first dimension counts examples."""

from __future__ import annotations

import contextlib
import math
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from pleb_shared.errors import InputError
from pleb_system.reading.source import EXAMPLE_BYTES, Chunk, Position, chunk_examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["read_npy", "read_npz"]


def read_npz(path: Path, position: Position) -> Iterator[Chunk]:
    """Yield chunks of all arrays of an archive, read side by side.

    Raises:
        InputError: not such a file, arrays of Python objects or in Fortran order, or of
            different lengths.
    """
    try:
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(path))
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            if not names:
                raise InputError(f"{path} has no arrays: write it with numpy.savez(x=..., y=...).")
            arrays = {
                name.removesuffix(".npy"): _Array(stack.enter_context(archive.open(name)), name)
                for name in names
            }
            yield from _chunks(arrays, path, position)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        raise InputError(f"{path} cannot be read as .npz: {error}.") from error


def read_npy(paths: list[Path], position: Position) -> Iterator[Chunk]:
    """Yield chunks of the arrays of several files, read side by side; raises as `read_npz`."""
    arrays: dict[str, _Array] = {}
    path = paths[0]
    try:
        with contextlib.ExitStack() as stack:
            for path in paths:
                if path.stem in arrays:
                    raise InputError(f"{path} would be the second input {path.stem!r}: rename it.")
                arrays[path.stem] = _Array(stack.enter_context(path.open("rb")), path.stem)
            yield from _chunks(arrays, paths[0], position)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read as .npy: {error}.") from error


def _chunks(arrays: Mapping[str, _Array], path: Path, position: Position) -> Iterator[Chunk]:
    lengths = {name: array.examples for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise InputError(f"{path}: the arrays have different lengths: {lengths}.")
    most = chunk_examples(sum(array.example_bytes for array in arrays.values()))
    for array in arrays.values():
        array.skip(position[0])
    for start in range(position[0], next(iter(lengths.values())), most):
        rows = {name: array.read(most) for name, array in arrays.items()}
        yield Chunk(rows, f"{path}, from example {start + 1} on", (start + most, 0))


class _Array:
    """One array in the form of .npy, read from front to back."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, self._dtype = read(stream)
        if self._dtype.hasobject or (fortran and len(shape) > 1) or not shape:
            raise InputError(
                f"Array {name!r} must be plain numbers in C order with examples first: write "
                "it with numpy.ascontiguousarray(...)."
            )
        self.examples, *rest = shape
        self._shape, self._left = tuple(rest), self.examples
        self.example_bytes = math.prod(rest) * self._dtype.itemsize
        if self.example_bytes > EXAMPLE_BYTES:
            raise InputError(
                f"Array {name!r} claims examples of {self.example_bytes} bytes; at most "
                f"{EXAMPLE_BYTES} are read."
            )

    def skip(self, count: int) -> None:
        """Leave out the next `count` examples."""
        self._left -= count
        self._stream.seek(count * self.example_bytes, 1)

    def read(self, most: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the next examples, at most `most`."""
        count = min(most, self._left)
        self._left -= count
        size = count * self.example_bytes
        data = self._stream.read(size)
        if len(data) != size:
            raise EOFError("it ends too early")
        return np.frombuffer(data, self._dtype).reshape(count, *self._shape)
