"""`.npz` files: every array is an input; its first dimension counts examples."""

from __future__ import annotations

import contextlib
import math
import zipfile
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib import format as npy

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.readers.spool import Rows

__all__ = ["read_npz"]

_CHUNK_EXAMPLES: Final = 4096


def read_npz(path: Path) -> Iterator[tuple[Rows, str]]:
    """Yield chunks of all arrays, read side by side from the archive, each with its place.

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
            members = {
                name.removesuffix(".npy"): _Member(stack.enter_context(archive.open(name)), name)
                for name in names
            }
            lengths = {name: member.examples for name, member in members.items()}
            if len(set(lengths.values())) != 1:
                raise InputError(f"{path}: the arrays have different lengths: {lengths}.")
            for start in range(0, next(iter(lengths.values())), _CHUNK_EXAMPLES):
                yield {n: m.read(_CHUNK_EXAMPLES) for n, m in members.items()}, f"{path}:{start}"
    except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{path} cannot be read as .npz: {error}.") from error


class _Member:
    """One array of the archive, read from front to back."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, self._dtype = read(stream)
        if self._dtype.hasobject or fortran or not shape:
            raise InputError(
                f"Array {name!r} must be plain numbers in C order with examples first: write "
                "it with numpy.ascontiguousarray(...)."
            )
        self.examples, *rest = shape
        self._shape, self._left = tuple(rest), self.examples

    def read(self, most: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the next examples, at most `most`."""
        count = min(most, self._left)
        self._left -= count
        size = count * math.prod(self._shape) * self._dtype.itemsize
        data = self._stream.read(size)
        if len(data) != size:
            raise EOFError("it ends too early")
        return np.frombuffer(data, self._dtype).reshape(count, *self._shape)
