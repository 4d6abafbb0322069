"""CSV tables: numbers standardised, categories as whole numbers, missing cells marked.

The file is read twice: first to learn the columns, then to write the rows, so that only the
columns' statistics and categories are ever in memory.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.spool import Rows

__all__ = ["Column", "Table", "learn_table"]

_CATEGORIES: Final = 1000
"""A text column with more values than this is not a category but free text."""
_CHUNK_ROWS: Final = 2048


@dataclass
class Column:
    """What the first reading learned. Numbers: mean and spread; else the sorted categories."""

    name: str
    numeric: bool = True
    count: int = 0
    mean: float = 0.0
    square: float = 0.0
    values: set[str] = field(default_factory=set)
    codes: dict[str, int] = field(default_factory=dict)

    @property
    def spread(self) -> float:
        """The standard deviation, or 1 for a constant column."""
        deviation = math.sqrt(self.square / self.count) if self.count else 0.0
        return deviation if deviation > 0 else 1.0

    def learn(self, cell: str) -> None:
        """Add one known cell (Welford's running mean and variance)."""
        if len(self.values) <= _CATEGORIES:
            self.values.add(cell)
        number = _number(cell) if self.numeric else None
        if number is None:
            self.numeric = False
            return
        self.count += 1
        change = number - self.mean
        self.mean += change / self.count
        self.square += change * (number - self.mean)


@dataclass(frozen=True)
class Table:
    """The columns of one or more CSV files, and how to turn their rows into arrays.

    Inputs: `numbers` float32 [n], `categories` int64 [m] (0 is a missing cell), whichever there
    are, and `y`: int64 for categories and whole numbers, else float32.
    """

    settings: DataSection
    columns: list[Column]
    target: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what the model gets, for the researcher."""
        numbers = [c.name for c in self._inputs() if c.numeric]
        categories = [f"{c.name} ({len(c.codes) + 1})" for c in self._inputs() if not c.numeric]
        target = self.columns[self.target]
        kinds = f"{len(target.codes)} classes" if target.codes else "numbers"
        return (
            f"numbers: {', '.join(numbers) or 'none'}",
            f"categories (how many, with 'missing'): {', '.join(categories) or 'none'}",
            f"target: {target.name}, {kinds} {list(target.codes)[:8] or ''}".strip(),
        )

    def rows(self, path: Path) -> Iterator[tuple[Rows, str]]:
        """Yield chunks of the rows of one file, each with its place.

        Raises:
            InputError: a cell does not fit its column; the message has row and column.
        """
        chunk: list[tuple[list[float], list[int], float]] = []
        for line, cells in _records(path, self.settings, len(self.columns)):
            chunk.append(self._row(path, line, cells))
            if len(chunk) == _CHUNK_ROWS:
                yield self._arrays(chunk), f"{path}, up to row {line}"
                chunk = []
        if chunk:
            yield self._arrays(chunk), f"{path}, the last rows"

    def _inputs(self) -> list[Column]:
        return [
            column
            for number, column in enumerate(self.columns)
            if number != self.target and column.name not in self.settings.drop
        ]

    def _row(self, path: Path, line: int, cells: list[str]) -> tuple[list[float], list[int], float]:
        numbers, categories = [], []
        target = self.columns[self.target]
        for column, cell in zip(self.columns, cells, strict=True):
            if column is target or column.name in self.settings.drop:
                continue
            known = cell not in self.settings.missing
            if column.numeric:
                number = _exact(path, line, column, cell) if known else column.mean
                numbers.append((number - column.mean) / column.spread)
            else:
                categories.append(_code(path, line, column, cell) if known else 0)
        cell = cells[self.target]
        if cell in self.settings.missing:
            raise InputError(
                f"{path}:{line}: the target {target.name!r} is missing: remove the row."
            )
        if target.codes:
            return numbers, categories, _code(path, line, target, cell) - 1
        return numbers, categories, _exact(path, line, target, cell)

    def _arrays(self, chunk: list[tuple[list[float], list[int], float]]) -> Rows:
        numbers, categories, targets = zip(*chunk, strict=True)
        rows: Rows = {}
        if numbers[0]:
            rows["numbers"] = np.array(numbers, np.float32)
        if categories[0]:
            rows["categories"] = np.array(categories, np.int64)
        whole = bool(self.columns[self.target].codes)
        rows["y"] = np.array(targets, np.int64 if whole else np.float32)
        return rows


def learn_table(paths: list[Path], settings: DataSection) -> Table:
    """Return the columns after a first reading of `paths`.

    A column of which every known cell is a number is one of numbers; the target is a class
    unless it has numbers that are not whole.

    Raises:
        InputError: a file cannot be read, a row has another number of cells, an unknown column
            is named, or a text column has too many values.
    """
    names = _names(paths[0], settings)
    for wanted in (*settings.drop, *([settings.target] if settings.target else [])):
        if wanted not in names:
            raise InputError(f"{paths[0]} has no column {wanted!r}; it has {', '.join(names)}.")
    target = names.index(settings.target) if settings.target else len(names) - 1
    columns = [Column(name) for name in names]
    for path in paths:
        for _, cells in _records(path, settings, len(names)):
            for column, cell in zip(columns, cells, strict=True):
                if cell not in settings.missing:
                    column.learn(cell)
    table = Table(settings, columns, target)
    for number, column in enumerate(columns):
        _finish(column, settings, is_target=number == target)
    return table


def _finish(column: Column, settings: DataSection, *, is_target: bool) -> None:
    classes = (
        is_target and column.numeric and all(float(value).is_integer() for value in column.values)
    )
    if column.name in settings.drop or (column.numeric and not classes):
        return
    if len(column.values) > _CATEGORIES:
        if is_target and column.numeric:
            return
        raise InputError(
            f"Column {column.name!r} has more than {_CATEGORIES} different texts: add it to drop "
            "in [data], or turn it into numbers first."
        )
    ordered = sorted(column.values, key=float) if classes else sorted(column.values)
    column.codes = {value: code for code, value in enumerate(ordered, start=1)}


def _names(path: Path, settings: DataSection) -> list[str]:
    for row in _cells(path, settings):
        if not settings.header:
            return [f"column{number}" for number in range(1, len(row[1]) + 1)]
        twice = [name for name in row[1] if row[1].count(name) > 1]
        if twice:
            raise InputError(f"{path}:1: the column {twice[0]!r} is duplicated: rename one.")
        return row[1]
    raise InputError(f"{path} is empty: name a file with rows in it.")


def _records(path: Path, settings: DataSection, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of every row of data."""
    rows = _cells(path, settings)
    if settings.header:
        next(rows, None)
    for line, cells in rows:
        if len(cells) != width:
            raise InputError(
                f"{path}:{line}: the row has {len(cells)} cells, the first one {width}: fix the "
                f"row, or check delimiter = {settings.delimiter!r}."
            )
        yield line, cells


def _cells(path: Path, settings: DataSection) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, stripped cells) of every row that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=settings.delimiter, strict=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield reader.line_num, cells
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8: {error}.") from error


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _exact(path: Path, line: int, column: Column, cell: str) -> float:
    number = _number(cell)
    if number is None:
        raise InputError(f"{path}:{line}: {cell!r} in column {column.name!r} is not a number.")
    return number


def _code(path: Path, line: int, column: Column, cell: str) -> int:
    if cell not in column.codes:
        raise InputError(
            f"{path}:{line}: {cell!r} in column {column.name!r} is not in the files that the "
            "columns were learned from."
        )
    return column.codes[cell]
