"""CSV tables: numbers standardised, categories as whole numbers, missing cells marked.

The files are read twice: first to learn the columns, then to write the rows, so that only the
columns' statistics and categories are ever in memory.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pleb_project.readers.files import find_files
from pleb_project.readers.groups import group_columns
from pleb_shared.errors import InputError
from pleb_system.reading.columns import Column, Columns
from pleb_system.reading.csv_rows import column_names, number_in, records, table_chunks
from pleb_system.reading.source import START, Chunk, Part, Position, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection

__all__ = ["csv_source"]


def csv_source(data: DataSection, folder: Path) -> Source:
    """Return the rows of the tables that `files` and `holdout_files` name."""
    files = find_files(data.files, folder, (".csv",))
    kept = find_files(data.holdout_files, folder, (".csv",))
    table = _Table(data, [*files, *kept])
    parts = [Part(str(path), partial(table.chunks, path)) for path in files]
    rest = [Part(str(path), partial(table.chunks, path)) for path in kept]
    return Source(parts, rest or None, [*files, *kept], notes=table.notes, learn=table.learn)


class _Table:
    """The columns of one or more CSV files, and how to turn their rows into arrays."""

    def __init__(self, data: DataSection, paths: list[Path]) -> None:
        self._data, self._paths = data, paths
        self._names: list[str] = []
        self.columns = Columns([], Column(""))

    def learn(self, known: bytes | None) -> bytes:
        """Read all files once and return what was found; `known` is what an earlier run has.

        A column of which every known cell is a number is one of numbers.

        Raises:
            InputError: a file cannot be read, a row has another number of cells, an unknown column
                is named, or a text column has too many values.
        """
        data = self._data
        self._names = names = column_names(self._paths[0], data)
        if known:
            self.columns = msgspec.json.decode(known, type=Columns)
            return known
        for wanted in (*data.drop, *group_columns(data), *([data.target] if data.target else [])):
            if wanted not in names:
                raise InputError(
                    f"{self._paths[0]} has no column {wanted!r}; it has {', '.join(names)}."
                )
        target = data.target or names[-1]
        left_out = {*data.drop, data.split_by, data.shard_by, target}
        self.columns = Columns(
            [Column(name) for name in names if name not in left_out],
            Column(target),
            group_columns(data),
        )
        for path in self._paths:
            for _, rows, _ in records(path, data, names, START):
                by_name = dict(zip(names, zip(*rows, strict=True), strict=True))
                for column in (*self.columns.inputs, self.columns.target):
                    self._learn(column, by_name[column.name])
        self.columns.finish()
        return msgspec.json.encode(self.columns)

    def notes(self) -> tuple[str, ...]:
        """Return sentences about the columns."""
        return self.columns.notes()

    def chunks(self, path: Path, position: Position) -> Iterator[Chunk]:
        """Yield the rows of one file as arrays.

        Raises:
            InputError: a cell does not fit its column; the message has row and column.
        """
        yield from table_chunks(path, self._data, self._names, self.columns, position)

    def _learn(self, column: Column, cells: tuple[str, ...]) -> None:
        known = [cell for cell in cells if cell not in self._data.missing]
        column.learn_values(known)
        if column.numeric:
            numbers = [number_in(cell) for cell in known]
            if None in numbers:
                column.numeric = False
            else:
                column.learn_numbers(np.array(numbers, np.float64))
