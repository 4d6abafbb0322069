"""Columns of a table: what a first reading learns, and how cells become inputs then.

Numbers are standardised, a missing one becomes 0; texts are categories, whole numbers from 1 on,
a missing one 0. The target is a class, from 0, unless it has numbers that are not whole.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from pleb_shared.errors import InputError
from pleb_system.reading.source import GROUP, Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


__all__ = ["Cells", "Column", "Columns"]

_CATEGORIES: Final = 1000
"""A text column with more values than this is not a category but free text."""

Cells = NDArray[Any] | list[str | None]
"""Cells of a column: numbers as float64, NaN where missing, or texts, None where missing."""


class Column(msgspec.Struct):
    """What is known of a column: mean and spread of numbers, or the categories in order."""

    name: str
    numeric: bool = True
    count: int = 0
    mean: float = 0.0
    square: float = 0.0
    values: set[str] = set()
    codes: dict[str, int] = {}

    @property
    def spread(self) -> float:
        """The standard deviation, or 1 for a constant column."""
        deviation = math.sqrt(self.square / self.count) if self.count else 0.0
        return deviation if deviation > 0 else 1.0

    def learn_numbers(self, cells: NDArray[np.float64]) -> None:
        """Add known numbers [n] to mean and spread (Chan, Golub and LeVeque 1979)."""
        if not len(cells):
            return
        count, mean = len(cells), float(cells.mean())
        change, total = mean - self.mean, self.count + count
        self.square += float(((cells - mean) ** 2).sum())
        self.square += change * change * self.count * count / total
        self.mean += change * count / total
        self.count = total

    def learn_values(self, cells: Iterable[str]) -> None:
        """Add the different values among known cells."""
        if len(self.values) <= _CATEGORIES:
            self.values |= set(cells)


class Columns(msgspec.Struct):
    """The columns that are inputs, the target, and those to group by."""

    inputs: list[Column]
    target: Column
    groups: list[str] = []

    def finish(self) -> None:
        """Number the categories once everything was learned.

        Raises:
            InputError: a text column has too many values.
        """
        target = self.target
        whole = target.numeric and all(float(value).is_integer() for value in target.values)
        for column in self.inputs:
            if not column.numeric:
                _number(column, sorted(column.values))
            column.values = set()
        if not target.numeric:
            _number(target, sorted(target.values))
        elif whole and len(target.values) <= _CATEGORIES:
            _number(target, sorted(target.values, key=float))
        target.values = set()

    def notes(self) -> tuple[str, ...]:
        """Return sentences about what the model gets, for the researcher."""
        numbers = [c.name for c in self.inputs if c.numeric]
        categories = [f"{c.name} ({len(c.codes) + 1})" for c in self.inputs if not c.numeric]
        target = self.target
        kinds = f"{len(target.codes)} classes" if target.codes else "numbers"
        return (
            f"numbers: {', '.join(numbers) or 'none'}",
            f"categories (how many, with 'missing'): {', '.join(categories) or 'none'}",
            f"target: {target.name}, {kinds} {list(target.codes)[:8] or ''}".strip(),
        )

    def rows(self, cells: Mapping[str, Cells], where: Iterable[str]) -> Rows:
        """Return the inputs of some rows.

        They are `numbers` float32 [n, m], `categories` int64 [n, k], whichever there are, and `y`
        [n]: int64 for classes, else float32. `where` has the place of each row, for errors. Cells
        of a column to group by are texts under its name behind `GROUP`.

        Raises:
            InputError: a cell does not fit its column, or a target is missing.
        """
        places = list(where)
        rows: Rows = {}
        numbers = [_standardised(c, cells[c.name]) for c in self.inputs if c.numeric]
        categories = [_coded(c, cells[c.name], places) for c in self.inputs if not c.numeric]
        if numbers:
            rows["numbers"] = np.stack(numbers, axis=1).astype(np.float32)
        if categories:
            rows["categories"] = np.stack(categories, axis=1)
        rows["y"] = self._targets(cells[self.target.name], places)
        for name in self.groups:
            values = cells[GROUP + name]
            rows[GROUP + name] = np.array(["" if c is None else str(c) for c in values])
        return rows

    def _targets(self, cells: Cells, places: list[str]) -> NDArray[Any]:
        target = self.target
        missing = (
            np.array([cell is None for cell in cells], bool)
            if isinstance(cells, list)
            else np.isnan(cells)
        )
        if missing.any():
            place = places[int(np.argmax(missing))]
            raise InputError(f"{place}: the target {target.name!r} is missing: remove the row.")
        if not target.codes:
            return np.asarray(cells, np.float64).astype(np.float32)
        if not isinstance(cells, list):
            cells = [_whole_text(cell) for cell in cells.tolist()]
        return _coded(target, cells, places) - 1


def _number(column: Column, ordered: list[str]) -> None:
    if len(ordered) > _CATEGORIES:
        raise InputError(
            f"Column {column.name!r} has more than {_CATEGORIES} different texts: add it to drop "
            "in [data], or turn it into numbers first."
        )
    column.codes = {value: code for code, value in enumerate(ordered, start=1)}


def _standardised(column: Column, cells: Cells) -> NDArray[np.float64]:
    numbers = np.asarray(cells, np.float64)
    return np.where(np.isnan(numbers), 0.0, (numbers - column.mean) / column.spread)


def _coded(column: Column, cells: Cells, places: list[str]) -> NDArray[np.int64]:
    codes = np.empty(len(cells), np.int64)
    for row, cell in enumerate(cells):
        code = 0 if cell is None else column.codes.get(cell)
        if code is None:
            raise InputError(
                f"{places[row]}: {cell!r} in column {column.name!r} is not in the files that the "
                "columns were learned from."
            )
        codes[row] = code
    return codes


def _whole_text(number: float) -> str:
    """Return a whole number as a table's first reading has learned it."""
    return f"{number:.0f}" if number.is_integer() else repr(number)
