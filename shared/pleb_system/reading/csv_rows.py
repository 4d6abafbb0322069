"""Rows of CSV files, in pieces, with the line of each."""

from __future__ import annotations

import csv
import math
from typing import IO, TYPE_CHECKING, Final, Protocol

import numpy as np

from pleb_shared.errors import InputError
from pleb_system.reading.source import GROUP, START, Chunk, Position

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pleb_system.reading.columns import Cells, Columns

__all__ = ["TableForm", "column_names", "number_in", "records", "table_chunks"]

_CHUNK_ROWS: Final = 2048
_LINE_BYTES: Final = 16 * 2**20

_Records = tuple[list[int], list[list[str]], Position]
"""The line of each of some rows, their cells, and where reading goes on."""


class TableForm(Protocol):
    """How the cells of a file are written."""

    @property
    def header(self) -> bool:
        """Whether the first row names the columns."""

    @property
    def delimiter(self) -> str:
        """The one character that separates cells."""

    @property
    def missing(self) -> Sequence[str]:
        """Cells that mean 'not known'."""


def table_chunks(
    path: Path, form: TableForm, names: list[str], columns: Columns, position: Position
) -> Iterator[Chunk]:
    """Yield the rows of a file as inputs from a position on; `names` are its columns in order.

    Raises:
        InputError: a cell does not fit its column; the message has row and column.
    """
    numeric = {c.name for c in (*columns.inputs, columns.target) if not c.codes}
    for lines, rows, after in records(path, form, names, position):
        cells: dict[str, Cells] = {}
        for name, column in zip(names, zip(*rows, strict=True), strict=True):
            known = [None if cell in form.missing else cell for cell in column]
            if name in columns.groups:
                cells[GROUP + name] = known
            cells[name] = _floats(path, lines, name, known) if name in numeric else known
        places = (f"{path}:{line}" for line in lines)
        yield Chunk(columns.rows(cells, places), f"{path}, lines {lines[0]} to {lines[-1]}", after)


def _floats(path: Path, lines: list[int], name: str, cells: list[str | None]) -> Cells:
    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        number = math.nan if cell is None else number_in(cell)
        if number is None:
            raise InputError(f"{path}:{lines[row]}: {cell!r} in column {name!r} is not a number.")
        found[row] = number
    return found


def records(
    path: Path, form: TableForm, names: Sequence[str], position: Position
) -> Iterator[_Records]:
    """Yield the rows of data of a file from a position on.

    Raises:
        InputError: the file cannot be read, or a row has not as many cells as `names`.
    """
    lines: list[int] = []
    rows: list[list[str]] = []
    header = form.header and position == START
    width = len(names)
    for line, cells, after in _cells(path, form, position):
        if header:
            header = False
            continue
        if len(cells) != width:
            raise InputError(
                f"{path}:{line}: the row has {len(cells)} cells, the first one {width}: fix "
                f"the row, or check delimiter = {form.delimiter!r}."
            )
        lines.append(line)
        rows.append(cells)
        if len(rows) == _CHUNK_ROWS:
            yield lines, rows, after
            lines, rows = [], []
    if rows:
        yield lines, rows, after


def column_names(path: Path, settings: TableForm) -> list[str]:
    """Return the names of a file's columns, by its first row.

    Raises:
        InputError: it is empty, cannot be read, or has a name twice.
    """
    for _, row, _ in _cells(path, settings, START):
        if not settings.header:
            return [f"column{number}" for number in range(1, len(row) + 1)]
        twice = [name for name in row if row.count(name) > 1]
        if twice:
            raise InputError(f"{path}:1: the column {twice[0]!r} is duplicated: rename one.")
        return row
    raise InputError(f"{path} is empty: name a file with rows in it.")


def _cells(
    path: Path, settings: TableForm, position: Position
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


def number_in(cell: str) -> float | None:
    """Return the number in a cell; None: it is not a finite one."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
