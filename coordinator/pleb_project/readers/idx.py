"""idx files, the format of MNIST and its successors; gzip or plain.

Two zero bytes, a byte for the dtype, a byte for the number of dimensions, each dimension as a
big-endian 32-bit number, then the elements, big-endian (LeCun, the MNIST database).
"""

from __future__ import annotations

import gzip
import math
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import numpy as np

from pleb_shared.errors import InputError
from pleb_system.reading.source import (
    EXAMPLE_BYTES,
    START,
    Chunk,
    Part,
    Position,
    Source,
    chunk_examples,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection

__all__ = ["idx_source", "read_idx_pair"]

_DTYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_source(data: DataSection, folder: Path) -> Source:
    """Return the examples of the two files, images and labels, of each part."""
    files = [folder / file for file in (*data.files, *data.holdout_files)]
    parts = [
        Part(str(images), partial(read_idx_pair, images, labels))
        for images, labels in zip(files[::2], files[1::2], strict=True)
    ]
    return Source(parts[:1], parts[1:] or None, files)


def read_idx_pair(images: Path, labels: Path, position: Position = START) -> Iterator[Chunk]:
    """Yield `x` (as in the file) and `y` int64 from the example at `position` on.

    Raises:
        InputError: a file is missing, is no idx file, ends too early, or the two differ in
            length.
    """
    with _open(images) as image_stream, _open(labels) as label_stream:
        xs, ys = _Reader(images, image_stream), _Reader(labels, label_stream)
        if xs.examples != ys.examples or len(ys.shape) != 0:
            raise InputError(
                f"{images} has {xs.examples} examples and {labels} has {ys.examples} entries of "
                f"shape {list(ys.shape)}: give the images first, then their labels."
            )
        most = chunk_examples(xs.example_bytes)
        xs.skip(position[0])
        ys.skip(position[0])
        for start in range(position[0], xs.examples, most):
            count = min(most, xs.examples - start)
            rows = {"x": xs.read(count), "y": ys.read(count).astype(np.int64)}
            yield Chunk(rows, f"{images}, from example {start + 1} on", (start + count, 0))


class _Reader:
    """An open idx file; `shape` is that of one example."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path, self._stream = path, stream
        try:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES or not head[3]:
                raise InputError(f"{path} is not an idx file: it starts with {head.hex() or '-'}.")
            sizes = np.frombuffer(_whole(stream.read(4 * head[3]), 4 * head[3]), ">u4")
        except (OSError, EOFError) as error:
            raise self._short() from error
        self._dtype = np.dtype(_DTYPES[head[2]])
        self.examples, *shape = (int(size) for size in sizes)
        self.shape = tuple(shape)
        self.example_bytes = math.prod(self.shape) * self._dtype.itemsize
        if self.example_bytes > EXAMPLE_BYTES:
            raise InputError(
                f"{path} claims examples of {self.example_bytes} bytes; at most {EXAMPLE_BYTES} "
                "are read."
            )

    def skip(self, count: int) -> None:
        """Leave out the next `count` examples."""
        try:
            self._stream.seek(count * self.example_bytes, 1)
        except (OSError, EOFError) as error:
            raise self._short() from error

    def read(self, count: int) -> NDArray[Any]:
        """Return the next `count` examples [count, *shape] in the machine's byte order."""
        size = count * self.example_bytes
        try:
            data = _whole(self._stream.read(size), size)
        except (OSError, EOFError, zlib.error) as error:
            raise self._short() from error
        array = np.frombuffer(data, self._dtype).reshape(count, *self.shape)
        return array.astype(self._dtype.newbyteorder("="))

    def _short(self) -> InputError:
        return InputError(f"{self._path} ends before all its examples: download it again.")


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise EOFError
    return data


def _open(path: Path) -> BinaryIO:
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        return cast("BinaryIO", gzip.open(path, "rb")) if compressed else path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
