"""Tables of Arrow, whatever file they come from: as a CSV table, or every column an input."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from pleb_project.readers.fields import Fields
from pleb_project.readers.groups import group_columns
from pleb_shared.errors import InputError
from pleb_system.reading.columns import Cells, Column, Columns
from pleb_system.reading.extras import need
from pleb_system.reading.source import (
    GROUP,
    START,
    Chunk,
    Part,
    Position,
    Source,
    chunk_examples,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection

__all__ = ["ArrowFile", "Batch", "arrow_source"]

_FIRST_ROWS: Final = 8
"""Of images or sounds, before the size of one is known."""


class Batch(NamedTuple):
    """Some rows (`pyarrow.RecordBatch`), the number of the first, and where reading goes on."""

    rows: Any
    first: int
    after: Position | None


class ArrowFile(Protocol):
    """A file of rows."""

    path: Path

    def schema(self) -> Any:
        """Return the `pyarrow.Schema` of its columns."""

    def batches(self, position: Position, columns: list[str]) -> Iterator[Batch]:
        """Yield its rows from a position on, of these columns.

        Raises:
            InputError: it cannot be read; the message has the place.
        """


def arrow_source(
    files: list[ArrowFile], kept: list[ArrowFile], data: DataSection, paths: Iterable[Path]
) -> Source:
    """Return the rows of `files`, and of `kept` for the holdout, which are read from `paths`.

    With a target they are a table, as of CSV; without, every column is an input by its name.
    """
    counts: dict[str, int] = {}
    reader = _Reader([*files, *kept], data, counts)
    parts = [Part(str(file.path), partial(reader.chunks, file)) for file in (*files, *kept)]
    return Source(
        parts[: len(files)],
        parts[len(files) :] or None,
        list(paths),
        reader.notes,
        reader.learn if data.target else None,
        counts,
    )


class _Reader:
    def __init__(self, files: list[ArrowFile], data: DataSection, counts: dict[str, int]) -> None:
        self._files, self._data = files, data
        self._types = need("pyarrow", "pyarrow", "Tables").types
        self._table: Columns | None = None
        self._fields = Fields(data, files[0].path.parent, counts)

    def notes(self) -> tuple[str, ...]:
        """Return sentences about a table's columns."""
        return self._table.notes() if self._table else ()

    def chunks(self, file: ArrowFile, position: Position) -> Iterator[Chunk]:
        """Yield the rows of a file as inputs.

        Raises:
            InputError: a file cannot be read, or a value does not fit; the message has its row.
        """
        schema = file.schema()
        self._require(schema, file.path)
        groups = group_columns(self._data)
        names = [n for n in schema.names if n not in self._data.drop or n in groups]
        media = not self._table and self._fields.has_media(schema)
        for rows, first, after in file.batches(position, names):
            place = f"{file.path}, rows {first + 1} to {first + len(rows)}"
            if self._table:
                yield Chunk(self._cells(self._table, rows, file.path, first), place, after)
                continue
            start, most = 0, _FIRST_ROWS if media else max(1, len(rows))
            while start < len(rows):
                piece = rows.slice(start, most)
                inputs = self._fields.rows(piece, file.path, first + start)
                start += len(piece)
                if media:
                    most = chunk_examples(sum(a[0].nbytes for a in inputs.values()))
                yield Chunk(inputs, place, after if start == len(rows) else None)

    def learn(self, known: bytes | None) -> bytes:
        """Read the files once and return what was found of their columns.

        Raises:
            InputError: a column that is named does not exist, or one cannot be part of a table.
        """
        if known:
            self._table = msgspec.json.decode(known, type=Columns)
            return known
        data = self._data
        schema = self._files[0].schema()
        self._require(schema, self._files[0].path)
        left_out = {*data.drop, data.split_by, data.shard_by, data.target}
        inputs = [n for n in schema.names if n not in left_out]
        columns = [
            Column(name, numeric=self._is_numeric(schema, name)) for name in (*inputs, data.target)
        ]
        self._table = Columns(columns[:-1], columns[-1], group_columns(data))
        for file in self._files:
            self._require(file.schema(), file.path)
            for rows, first, _ in file.batches(START, [c.name for c in columns]):
                for column in columns:
                    self._learn(column, rows, file.path, first)
        self._table.finish()
        return msgspec.json.encode(self._table)

    def _learn(self, column: Column, rows: Any, path: Path, first: int) -> None:
        cells = self._column(column, rows, path, first)
        if isinstance(cells, list):
            column.learn_values(cell for cell in cells if cell is not None)
            return
        cells = cells[~np.isnan(cells)]
        column.learn_numbers(cells)
        if column.name == self._data.target:
            column.learn_values(
                f"{n:.0f}" if n.is_integer() else repr(n) for n in np.unique(cells).tolist()
            )

    def _cells(self, table: Columns, rows: Any, path: Path, first: int) -> dict[str, Any]:
        cells = {
            column.name: self._column(column, rows, path, first)
            for column in (*table.inputs, table.target)
        }
        for name in table.groups:
            cells[GROUP + name] = [str(value) for value in rows.column(name).to_pylist()]
        places = (f"{path}: row {first + row + 1}" for row in range(len(rows)))
        return table.rows(cells, places)

    def _column(self, column: Column, rows: Any, path: Path, first: int) -> Cells:
        """Return the cells of a column: numbers, NaN where missing, or texts, None there."""
        array = rows.column(column.name)
        if not column.numeric:
            missing = self._data.missing
            return [None if v is None or v in missing else str(v) for v in array.to_pylist()]
        numbers = np.asarray(array.cast("float64", safe=False).to_numpy(zero_copy_only=False))
        if np.isinf(numbers).any():
            row = first + int(np.argmax(np.isinf(numbers))) + 1
            raise InputError(f"{path}: row {row} has {math.inf} in column {column.name!r}.")
        return numbers

    def _is_numeric(self, schema: Any, name: str) -> bool:
        kind = schema.field(name).type
        kind = kind.value_type if self._types.is_dictionary(kind) else kind
        if self._types.is_integer(kind) or self._types.is_floating(kind):
            return True
        if self._types.is_string(kind) or self._types.is_large_string(kind):
            return False
        if self._types.is_boolean(kind):
            return True
        raise InputError(
            f"{self._files[0].path}: column {name!r} has the type {kind}; a table has numbers and "
            f'texts: add "{name}" to drop in [data], or leave out target.'
        )

    def _require(self, schema: Any, path: Path) -> None:
        target = [self._data.target] if self._data.target else []
        for wanted in (*self._data.drop, *group_columns(self._data), *target):
            if wanted not in schema.names:
                raise InputError(
                    f"{path} has no column {wanted!r}; it has {', '.join(schema.names[:30])}."
                )
