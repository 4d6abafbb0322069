"""CSV tables: numbers standardised, categories as whole numbers, missing cells marked.

The files are read twice: first to learn the columns, then to write the rows, so that only the
columns' statistics and categories are ever in memory.
"""

from __future__ import annotations

import csv
import math
from functools import partial
from typing import IO, TYPE_CHECKING, Final

import msgspec
import numpy as np

from pleb_project.readers.columns import Cells, Column, Columns
from pleb_project.readers.files import find_files
from pleb_project.readers.groups import group_columns
from pleb_project.readers.source import GROUP, START, Chunk, Part, Position, Source
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection

__all__ = ["csv_source"]

_CHUNK_ROWS: Final = 2048
_LINE_BYTES: Final = 16 * 2**20

_Records = tuple[list[int], list[list[str]], Position]
"""The line of each of some rows, their cells, and where reading goes on."""


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
        self._names = names = _names(self._paths[0], data)
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
            for _, rows, _ in self._records(path, START):
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
        numeric = {c.name for c in (*self.columns.inputs, self.columns.target) if not c.codes}
        for lines, rows, after in self._records(path, position):
            cells: dict[str, Cells] = {}
            for name, column in zip(self._names, zip(*rows, strict=True), strict=True):
                known = [None if cell in self._data.missing else cell for cell in column]
                if name in self.columns.groups:
                    cells[GROUP + name] = known
                wanted = name in numeric
                cells[name] = self._floats(path, lines, name, known) if wanted else known
            places = (f"{path}:{line}" for line in lines)
            yield Chunk(
                self.columns.rows(cells, places), f"{path}, lines {lines[0]} to {lines[-1]}", after
            )

    def _learn(self, column: Column, cells: tuple[str, ...]) -> None:
        known = [cell for cell in cells if cell not in self._data.missing]
        column.learn_values(known)
        if column.numeric:
            numbers = [_number(cell) for cell in known]
            if None in numbers:
                column.numeric = False
            else:
                column.learn_numbers(np.array(numbers, np.float64))

    def _floats(self, path: Path, lines: list[int], name: str, cells: list[str | None]) -> Cells:
        found = np.empty(len(cells))
        for row, cell in enumerate(cells):
            number = math.nan if cell is None else _number(cell)
            if number is None:
                raise InputError(
                    f"{path}:{lines[row]}: {cell!r} in column {name!r} is not a number."
                )
            found[row] = number
        return found

    def _records(self, path: Path, position: Position) -> Iterator[_Records]:
        """Yield the rows of data of a file from a position on."""
        lines: list[int] = []
        rows: list[list[str]] = []
        header = self._data.header and position == START
        width = len(self._names)
        for line, cells, after in _cells(path, self._data, position):
            if header:
                header = False
                continue
            if len(cells) != width:
                raise InputError(
                    f"{path}:{line}: the row has {len(cells)} cells, the first one {width}: fix "
                    f"the row, or check delimiter = {self._data.delimiter!r}."
                )
            lines.append(line)
            rows.append(cells)
            if len(rows) == _CHUNK_ROWS:
                yield lines, rows, after
                lines, rows = [], []
        if rows:
            yield lines, rows, after


def _names(path: Path, settings: DataSection) -> list[str]:
    for _, row, _ in _cells(path, settings, START):
        if not settings.header:
            return [f"column{number}" for number in range(1, len(row) + 1)]
        twice = [name for name in row if row.count(name) > 1]
        if twice:
            raise InputError(f"{path}:1: the column {twice[0]!r} is duplicated: rename one.")
        return row
    raise InputError(f"{path} is empty: name a file with rows in it.")


def _cells(
    path: Path, settings: DataSection, position: Position
) -> Iterator[tuple[int, list[str], Position]]:
    """Yield (line, stripped cells, the position after it) of every row that is not blank."""
    offset, first_line = position
    try:
        with path.open("rb") as file:
            file.seek(offset)
            lines = _Lines(file, offset)
            reader = csv.reader(lines, delimiter=settings.delimiter, strict=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                line = first_line + reader.line_num
                if any(cells):
                    yield line, cells, (lines.offset, line)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8: {error}.") from error


class _Lines:
    """The lines of a file as text; `offset` is where the next one begins."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        self._file, self.offset = file, offset

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(_LINE_BYTES):
            text = line.decode("utf-8-sig" if not self.offset else "utf-8")
            self.offset += len(line)
            yield text


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
