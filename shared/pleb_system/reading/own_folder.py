"""A user's own folder, read as a project declares: examples in the forms of its inputs, or why not.

Nothing is guessed: columns, classes and forms are the researcher's, and what does not fit is an
error with its file, its line or row, and what was expected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_shared.errors import InputError
from pleb_shared.protocol.project import example_bytes
from pleb_shared.tensors.layout import NUMPY_DTYPES
from pleb_system.reading.arrays import read_npy, read_npz
from pleb_system.reading.class_folders import class_of, list_examples
from pleb_system.reading.columns import Column, Columns
from pleb_system.reading.csv_rows import column_names, table_chunks
from pleb_system.reading.images import IMAGE_ENDINGS, read_images
from pleb_system.reading.json_objects import json_objects
from pleb_system.reading.source import START, Chunk, chunk_examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_shared.protocol.own_data import OwnColumn, OwnData, OwnTable
    from pleb_shared.protocol.project import InputSpec
    from pleb_system.reading.columns import Cells
    from pleb_system.reading.source import Rows

__all__ = ["OwnFolder"]

_ENDINGS: Final = {
    "csv": (".csv",),
    "images": IMAGE_ENDINGS,
    "jsonl": (".jsonl", ".ndjson"),
    "npy": (".npy",),
    "npz": (".npz",),
}


@dataclass(frozen=True)
class OwnFolder:
    """A folder, and how the project reads it."""

    folder: Path
    form: OwnData
    inputs: Sequence[InputSpec]

    def chunks(self) -> Iterator[Rows]:
        """Yield the examples of all files, by path: arrays [n, *shape] of the project's inputs.

        Raises:
            InputError: a file cannot be read, or an example is not what the project declares.
        """
        readers = {
            "csv": self._csv,
            "images": self._images,
            "jsonl": self._json_lines,
            "npy": lambda: read_npy(self._files(), START),
            "npz": self._archives,
        }
        for chunk in readers[self.form.reader]():
            yield self._fitted(chunk)

    def _files(self) -> list[Path]:
        endings = _ENDINGS[self.form.reader]
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is not a folder: choose the one with your data.")
        found = sorted(p for p in self.folder.iterdir() if p.name.lower().endswith(endings))
        files = [path for path in found if path.is_file() and not path.name.startswith(".")]
        if not files:
            raise InputError(
                f"{self.folder} has no file that ends in {' or '.join(endings)}, which this "
                "project reads."
            )
        return files

    def _archives(self) -> Iterator[Chunk]:
        for path in self._files():
            yield from read_npz(path, START)

    def _csv(self) -> Iterator[Chunk]:
        table, columns = self._table()
        for path in self._files():
            names = column_names(path, table)
            self._require(path, [*table.inputs, table.target], names)
            yield from table_chunks(path, table, names, columns, START)

    def _json_lines(self) -> Iterator[Chunk]:
        for path in self._files():
            for objects, first, _ in json_objects(path, START):
                place = f"{path}, lines {first + 1} to {first + len(objects)}"
                yield Chunk(self._from_objects(path, first, objects), place, None)

    def _from_objects(self, path: Path, first: int, objects: list[dict[str, Any]]) -> Rows:
        places = [f"{path}:{first + n + 1}" for n in range(len(objects))]
        if self.form.table is None:
            return {
                spec.name: np.stack(
                    [_values(one, spec, place) for one, place in zip(objects, places, strict=True)]
                )
                for spec in self.inputs
            }
        table, columns = self._table()
        cells = {
            column.name: _cells(column, table, objects, places)
            for column in [*table.inputs, table.target]
        }
        return columns.rows(cells, places)

    def _images(self) -> Iterator[Chunk]:
        listed = list_examples(self.folder, IMAGE_ENDINGS)
        numbers = {name: number for number, name in enumerate(self.form.classes)}
        labelled = any(spec.name == "y" for spec in self.inputs)
        most = chunk_examples(example_bytes(self.inputs))
        for start in range(0, len(listed.names), most):
            names = listed.names[start : start + most]
            labels = [numbers.get(class_of(name)) for name in names]
            if labelled and None in labels:
                odd = names[labels.index(None)]
                raise InputError(
                    f"{listed.root / odd} is of the class {class_of(odd)!r}; this project has "
                    f"{', '.join(map(repr, self.form.classes[:20]))}: put it into such a subfolder."
                )
            sources = [(listed.root / name, str(listed.root / name)) for name in names]
            for path, place in sources:
                if not path.is_file():  # a pipe there would hold us up for ever
                    raise InputError(f"{place} is no plain file: take it out of the folder.")
            rows: Rows = {}
            for source in sources:
                one = read_images("x", [source], self.form.image_size, self.form.channels)["x"]
                self._check_form("x", one, source[1])
                rows["x"] = np.concatenate([rows["x"], one]) if "x" in rows else one
            if labelled:
                rows["y"] = np.array(labels, np.int64)
            yield Chunk(rows, f"{sources[0][1]} to {sources[-1][1]}", None)

    def _table(self) -> tuple[OwnTable, Columns]:
        table = self.form.table
        if table is None:
            raise InputError("The project does not say which columns it reads; tell its researcher")
        return table, Columns([_column(c) for c in table.inputs], _column(table.target))

    @staticmethod
    def _require(path: Path, columns: Sequence[OwnColumn], names: list[str]) -> None:
        missing = [column.name for column in columns if column.name not in names]
        if missing:
            raise InputError(
                f"{path} has no column {missing[0]!r}, which this project reads; it has "
                f"{', '.join(names[:20])}."
            )

    def _fitted(self, chunk: Chunk) -> Rows:
        """Return the chunk's arrays of the project's inputs, in their dtypes."""
        counts = {len(array) for array in chunk.rows.values()}
        fitted: Rows = {}
        for spec in self.inputs:
            if spec.name not in chunk.rows:
                raise InputError(
                    f"{chunk.place}: there is no input {spec.name!r}; there are "
                    f"{', '.join(sorted(chunk.rows)[:20])}."
                )
            array = chunk.rows[spec.name]
            self._check_form(spec.name, array, chunk.place)
            fitted[spec.name] = self._checked(spec, array, chunk.place)
        if len(counts) != 1:
            raise InputError(f"{chunk.place}: the arrays have different lengths {sorted(counts)}.")
        return fitted

    def _check_form(self, name: str, array: NDArray[Any], place: str) -> None:
        spec = next(spec for spec in self.inputs if spec.name == name)
        if list(array.shape[1:]) != spec.shape:
            raise InputError(
                f"{place}: input {name!r} has the shape {list(array.shape[1:])}; this project "
                f"reads {spec.shape}."
            )

    def _checked(self, spec: InputSpec, array: NDArray[Any], place: str) -> NDArray[Any]:
        """Return an input's array in its dtype, if every number of it fits."""
        wanted = NUMPY_DTYPES[spec.dtype]
        kinds = {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}[wanted.kind]
        if array.dtype.kind not in kinds:
            raise InputError(
                f"{place}: input {spec.name!r} is {array.dtype}; this project reads {spec.dtype}."
            )
        least, most = -math.inf, math.inf
        if wanted.kind in "iu":
            least, most = int(np.iinfo(wanted).min), int(np.iinfo(wanted).max)
        for known in self.form.ranges:
            if known.name == spec.name:
                least, most = max(least, known.least), min(most, known.most)
        if wanted.kind == "f":
            with np.errstate(over="ignore"):
                array = array.astype(wanted, copy=False)
            wrong = ~np.isfinite(array)
        elif wanted.kind == "b":
            return array
        else:
            wrong = (array < least) | (array > most)
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            value = array[tuple(np.argwhere(wrong)[0])]
            expected = "a finite number" if wanted.kind == "f" else f"from {least} to {most}"
            raise InputError(
                f"{place}: input {spec.name!r} of example {row + 1} there is {value}; it must be "
                f"{expected}."
            )
        return array.astype(wanted, copy=False)


def _column(told: OwnColumn) -> Column:
    codes = {text: number for number, text in enumerate(told.categories, 1)}
    return Column(
        told.name,
        numeric=not codes,
        count=1,
        mean=told.mean,
        square=told.spread**2,
        codes=codes,
    )


def _cells(
    column: OwnColumn, table: OwnTable, objects: list[dict[str, Any]], places: list[str]
) -> Cells:
    """Return a column of some objects, as a table's cells are."""
    values = [one.get(column.name) for one in objects]
    if column.categories:
        return [None if v is None or v in table.missing else _text(v) for v in values]
    numbers = np.empty(len(values))
    for row, value in enumerate(values):
        is_number = isinstance(value, int | float)
        if not (is_number or value is None or value in table.missing):
            raise InputError(f"{places[row]}: {value!r} in {column.name!r} is not a number.")
        try:
            numbers[row] = float(value) if isinstance(value, int | float) else math.nan
        except OverflowError as error:
            raise InputError(f"{places[row]}: {column.name!r} is too large a number.") from error
    return numbers


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return str(value)


def _values(one: dict[str, Any], spec: InputSpec, place: str) -> NDArray[Any]:
    """Return the numbers of one object for an input [*shape]."""
    value = one.get(spec.name)
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{place}: {spec.name!r} is not {'a number' if not spec.shape else 'a list of numbers'}"
            f" of the shape {spec.shape}."
        )
    if list(array.shape) != spec.shape:
        raise InputError(
            f"{place}: {spec.name!r} has the shape {list(array.shape)}; this project reads "
            f"{spec.shape}."
        )
    return array
