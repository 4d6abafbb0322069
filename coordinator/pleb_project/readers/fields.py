"""Columns of Arrow as inputs by their names: numbers, lists, texts, images and sounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pleb_project.readers.groups import group_columns
from pleb_project.readers.media import Media, is_sound
from pleb_project.readers.padding import padded, stacked
from pleb_shared.errors import InputError
from pleb_system.reading.extras import need
from pleb_system.reading.source import GROUP, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pleb_project.definition.sections import DataSection

__all__ = ["Fields"]


class Fields:
    """Turns batches of rows (`pyarrow.RecordBatch`) into inputs."""

    def __init__(self, data: DataSection, folder: Path, counts: dict[str, int]) -> None:
        self._data, self._folder, self._counts = data, folder, counts
        self._media = Media(data, counts)
        self._arrow = need("pyarrow", "pyarrow", "Columns")

    def has_media(self, schema: Any) -> bool:
        """Whether a column is of images or sounds, whose size the batch does not say."""
        types = self._arrow.types
        return any(types.is_struct(field.type) or types.is_binary(field.type) for field in schema)

    def rows(self, batch: Any, path: Path, first: int) -> Rows:
        """Return the inputs of a batch whose first row has the number `first`.

        Raises:
            InputError: a value is missing or of a kind that no input has.
        """
        rows: Rows = {}
        groups = group_columns(self._data)
        for name in batch.schema.names:
            column = batch.column(name)
            types = self._arrow.types
            is_text = types.is_string(column.type) or types.is_large_string(column.type)
            if name in groups:
                rows[GROUP + name] = np.array([str(value) for value in column.to_pylist()])
                # Numbers may be an input as well: `take_column` decides.
                if is_text or name != self._data.stratify_by:
                    continue
            if name not in self._data.drop:
                rows |= self._inputs(name, column, path, first)
        return rows

    def _inputs(self, name: str, column: Any, path: Path, first: int) -> Rows:
        types, kind = self._arrow.types, column.type
        if types.is_dictionary(kind):
            column = column.dictionary_decode()
            kind = column.type
        if column.null_count:
            row = first + column.is_null().to_pylist().index(True)
            raise InputError(
                f"{path}: row {row + 1} has nothing in column {name!r}: fill it, leave the row "
                "out, or add the column to drop in [data]."
            )
        place = f"{path}, rows {first + 1} to {first + len(column)}"
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            return {name: column.to_numpy(zero_copy_only=False)}
        if types.is_string(kind) or types.is_large_string(kind):
            if not self._data.max_length:
                raise InputError(
                    f"{place}: column {name!r} is text: give max_length = ... in [data] to have "
                    "its bytes, or add it to drop."
                )
            texts = [np.frombuffer(value.encode(), np.uint8) for value in column.to_pylist()]
            return padded(name, texts, self._data, self._counts, place)
        if types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            return self._decoded(name, column, path, first)
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            return self._lists(name, column, place)
        raise InputError(
            f"{path}: column {name!r} has the type {kind}, of which no input is made: convert it "
            f'to numbers, or add "{name}" to drop in [data].'
        )

    def _lists(self, name: str, column: Any, place: str) -> Rows:
        fixed = self._arrow.types.is_fixed_size_list(column.type)
        pads = self._data.max_length and (name in self._data.pad or not (self._data.pad or fixed))
        if _nested(self._arrow.types, column.type):
            arrays = [_array(value) for value in column.to_pylist()]
        else:
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            values = column.flatten().to_numpy(zero_copy_only=False)
            if not pads and values.dtype.kind in "biuf" and (lengths == lengths[0]).all():
                return {name: values.reshape(len(lengths), lengths[0])}
            arrays = np.split(values, np.cumsum(lengths)[:-1])
        if any(array.dtype.kind not in "biuf" for array in arrays):
            raise InputError(
                f"{place}: the lists in column {name!r} are not all of numbers: add it to drop in "
                "[data]."
            )
        if pads:
            return padded(name, arrays, self._data, self._counts, place)
        return {name: stacked(name, arrays, place)}

    def _decoded(self, name: str, column: Any, path: Path, first: int) -> Rows:
        sources: list[tuple[bytes | Path, str]] = []
        for row, value in enumerate(column.to_pylist(), start=first + 1):
            where = f"{path}, row {row}, column {name!r}"
            content, file = value, None
            if isinstance(value, dict):
                content, file = value.get("bytes"), value.get("path")
            if isinstance(content, bytes):
                sources.append((content, where))
            elif isinstance(file, str):
                sources.append((self._folder / file, f"{where} ({file})"))
            else:
                raise InputError(f"{where}: there are neither `bytes` nor a `path` of a file.")
        source = sources[0][0]
        if isinstance(source, Path):
            sound = source.suffix.lower() in {".wav", ".flac", ".ogg", ".mp3"}
        else:
            sound = is_sound(source)
        decode = self._media.sounds if sound else self._media.images
        return decode(name, sources)


def _nested(types: Any, kind: Any) -> bool:
    return not types.is_primitive(kind.value_type) or types.is_temporal(kind.value_type)


def _array(value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError:  # lists of different lengths inside
        return np.asarray("ragged")
