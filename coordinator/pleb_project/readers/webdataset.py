"""WebDataset: tar archives in which consecutive files of one name are an example.

`0001.jpg`, `0001.cls`, `0001.json`: the ending, from the first dot on, says what each is.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, cast

import msgspec
import numpy as np
from numpy.lib import format as npy

from pleb_project.readers.files import find_files
from pleb_project.readers.groups import group_columns
from pleb_project.readers.media import SOUND_ENDINGS, Media, group_of
from pleb_project.readers.padding import padded, stacked
from pleb_shared.errors import InputError
from pleb_system.reading.images import IMAGE_ENDINGS
from pleb_system.reading.source import (
    EXAMPLE_BYTES,
    GROUP,
    Chunk,
    Part,
    Position,
    Source,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection
    from pleb_system.reading.source import Rows

__all__ = ["webdataset_source"]

_CHUNK_BYTES: Final = 4 * 2**20
_CHUNK_EXAMPLES: Final = 256

_Files = dict[str, bytes]
"""The files of an example by their endings, without the first dot."""


def webdataset_source(data: DataSection, folder: Path) -> Source:
    """Return the examples of one archive after the other.

    An image or a sound is `x`, `.cls` is `y` int64, `.npy` and the numbers and lists of numbers in
    `.json` are inputs by their names.
    """
    endings = (".tar", ".tar.gz", ".tgz")
    files = find_files(data.files, folder, endings)
    kept = find_files(data.holdout_files, folder, endings)
    counts: dict[str, int] = {}
    reader = _Reader(data, counts)
    parts = [Part(str(path), partial(reader.chunks, path)) for path in (*files, *kept)]
    return Source(parts[: len(files)], parts[len(files) :] or None, [*files, *kept], counts=counts)


class _Reader:
    def __init__(self, data: DataSection, counts: dict[str, int]) -> None:
        self._data, self._counts = data, counts
        self._media = Media(data, counts)

    def chunks(self, path: Path, position: Position) -> Iterator[Chunk]:
        """Yield the examples of an archive from a position on.

        Raises:
            InputError: it is no such archive, ends too early, or an example is not like those
                before it.
        """
        keys: list[str] = []
        examples: list[_Files] = []
        size = 0
        for key, files, after in self._examples(path, position):
            keys.append(key)
            examples.append(files)
            size += sum(map(len, files.values()))
            if size > _CHUNK_BYTES or len(keys) == _CHUNK_EXAMPLES:
                yield self._chunk(path, keys, examples, after)
                keys, examples, size = [], [], 0
        if keys:
            yield self._chunk(path, keys, examples, (path.stat().st_size, 0))

    def _examples(self, path: Path, position: Position) -> Iterator[tuple[str, _Files, Position]]:
        """Yield (name, files, where the next one begins)."""
        key, files, size = "", _Files(), 0
        try:
            with _opened(path) as stream:
                stream.seek(position[0])
                archive = tarfile.TarFile(fileobj=stream)
                while member := archive.next():
                    vars(archive)["members"] = []  # else it would remember each of them
                    name, _, ending = member.name.rpartition("/")[2].partition(".")
                    name = member.name[: len(member.name) - len(ending)].rstrip(".")
                    if not member.isfile() or not ending or not name:
                        continue
                    if name != key and files:
                        yield key, files, (member.offset, 0)
                        files, size = {}, 0
                    key, size = name, size + member.size
                    if size > EXAMPLE_BYTES:
                        raise InputError(
                            f"{path}: {member.name} makes the example larger than "
                            f"{EXAMPLE_BYTES} bytes, the most that are read."
                        )
                    files[ending.lower()] = _content(path, archive, member)
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise InputError(f"{path} cannot be read as a tar archive: {error}.") from error
        if files:
            yield key, files, (0, 0)

    def _chunk(self, path: Path, keys: list[str], examples: list[_Files], after: Position) -> Chunk:
        place = f"{path}, {keys[0]} to {keys[-1]}"
        for key, files in zip(keys, examples, strict=True):
            if files.keys() != examples[0].keys():
                raise InputError(
                    f"{path}, {key}: it has the files {', '.join(sorted(files))}, an example "
                    f"before it {', '.join(sorted(examples[0]))}: every example needs the same."
                )
        rows: Rows = {}
        for ending in examples[0]:
            contents = [
                (files[ending], f"{path}, {key}.{ending}")
                for key, files in zip(keys, examples, strict=True)
            ]
            rows |= self._inputs(ending, contents, place)
        for pattern in group_columns(self._data):
            if pattern not in rows:
                rows[GROUP + pattern] = np.array([group_of(pattern, key) for key in keys])
        return Chunk(rows, place, after)

    def _inputs(self, ending: str, contents: list[tuple[bytes, str]], place: str) -> Rows:
        """Return the inputs that the files of one ending are."""
        last = f".{ending.rpartition('.')[2]}"
        if ending in self._data.drop or last in {".txt", ".text"}:
            return {}
        if last in IMAGE_ENDINGS:
            return self._media.images("x", contents)
        if last in SOUND_ENDINGS:
            return self._media.sounds("x", contents)
        if last == ".cls":
            return {"y": np.array([_class(data, where) for data, where in contents], np.int64)}
        if last == ".npy":
            arrays = [_array(data, where) for data, where in contents]
            return self._sequences(ending.removesuffix(".npy") or "npy", arrays, place)
        if last == ".json":
            return self._json(contents, place)
        raise InputError(
            f"{contents[0][1]}: .{ending} files are not read (images, sounds, .cls, .npy and .json "
            f'are): add "{ending}" to drop in [data].'
        )

    def _json(self, contents: list[tuple[bytes, str]], place: str) -> Rows:
        found = [_object(data, where) for data, where in contents]
        rows: Rows = {}
        for name in found[0]:
            if name in self._data.drop:
                continue
            if not all(name in one for one in found):
                raise InputError(f"{place}: not every .json has {name!r}.")
            arrays = [np.asarray(one[name]) for one in found]
            if all(array.dtype.kind in "biuf" for array in arrays):
                rows |= self._sequences(name, arrays, place)
            elif name in group_columns(self._data):
                rows[name] = np.array([str(one[name]) for one in found])
        return rows

    def _sequences(self, name: str, arrays: list[NDArray[Any]], place: str) -> Rows:
        lists = any(array.ndim for array in arrays)
        if lists and self._data.max_length and (not self._data.pad or name in self._data.pad):
            return padded(name, arrays, self._data, self._counts, place)
        return {name: stacked(name, arrays, place)}


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if compressed else path.open("rb")


def _content(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise InputError(f"{path} ends inside {member.name}: download it again.")
    return data


def _class(data: bytes, where: str) -> int:
    try:
        return int(data.decode("ascii"))
    except ValueError as error:
        raise InputError(f"{where} is {data[:40]!r}, not the number of a class.") from error


def _array(data: bytes, where: str) -> NDArray[Any]:
    try:
        return npy.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{where} cannot be read as .npy: {error}.") from error


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{where} is not a JSON object: {error}.") from error
