"""JSON lines: an object in each line, whose values take the types that Arrow has for all lines."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from pleb_project.readers.arrow import ArrowFile, Batch, arrow_source
from pleb_project.readers.files import find_files
from pleb_shared.errors import InputError
from pleb_system.reading.columns import Columns
from pleb_system.reading.extras import need
from pleb_system.reading.json_objects import json_objects
from pleb_system.reading.source import START, Position, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection

__all__ = ["columns_learned", "jsonl_source"]


def jsonl_source(data: DataSection, folder: Path) -> Source:
    """Return the objects of JSON lines, one in a line; all files have the same columns."""
    endings = (".jsonl", ".ndjson", ".json")
    files = find_files(data.files, folder, endings)
    kept = find_files(data.holdout_files, folder, endings)
    schema = _JsonSchema([*files, *kept])
    lines: list[ArrowFile] = [_JsonLines(path, schema) for path in (*files, *kept)]
    source = arrow_source(lines[: len(files)], lines[len(files) :], data, [*files, *kept])
    learn = source.learn

    def learn_both(known: bytes | None) -> bytes:
        found = msgspec.json.decode(known, type=_Learned) if known else None
        schema.learn(found.schema if found else None)
        columns = learn(found.columns if found else None) if learn else b""
        return msgspec.json.encode(_Learned(schema.to_text(), columns))

    return Source(
        source.train, source.holdout, source.files, source.notes, learn_both, source.counts
    )


def columns_learned(learned: bytes) -> Columns:
    """Return the columns of a table, from what the source has learned."""
    return msgspec.json.decode(msgspec.json.decode(learned, type=_Learned).columns, type=Columns)


class _Learned(msgspec.Struct):
    schema: str
    columns: bytes


class _JsonSchema:
    """The types of all columns, which no single line shows: `1` may become `1.5` later."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._arrow = need("pyarrow", "pyarrow", "JSON lines")
        self.value: Any = self._arrow.schema([])

    def learn(self, known: str | None) -> None:
        """Read all files once, unless an earlier run did."""
        if known:
            self.value = self._arrow.ipc.read_schema(self._arrow.py_buffer(base64.b64decode(known)))
            return
        for path in self._paths:
            for objects, first, _ in json_objects(path, START):
                names = dict.fromkeys(name for one in objects for name in one)
                found = self._arrow.schema(
                    [(n, self._column(path, first, n, objects).type) for n in names]
                )
                self.value = self._unified(path, first, found)

    def to_text(self) -> str:
        """Return what `learn` takes."""
        return base64.b64encode(self.value.serialize().to_pybytes()).decode()

    def batch(self, path: Path, first: int, objects: list[dict[str, Any]]) -> Any:
        """Return objects as a `pyarrow.RecordBatch` of these types."""
        return self._arrow.RecordBatch.from_arrays(
            [self._column(path, first, field.name, objects, field.type) for field in self.value],
            schema=self.value,
        )

    def _column(
        self, path: Path, first: int, name: str, objects: list[dict[str, Any]], kind: Any = None
    ) -> Any:
        try:
            return self._arrow.array([one.get(name) for one in objects], kind)
        except (self._arrow.ArrowException, OverflowError) as error:
            raise InputError(
                f"{path}, lines {first + 1} to {first + len(objects)}: the values of {name!r} "
                f"are not of one kind: {error}."
            ) from error

    def _unified(self, path: Path, first: int, found: Any) -> Any:
        try:
            return self._arrow.unify_schemas([self.value, found], promote_options="permissive")
        except self._arrow.ArrowException as error:
            raise InputError(
                f"{path}, from line {first + 1} on: a value is of another kind than before: "
                f"{error}."
            ) from error


class _JsonLines:
    """A file with a JSON object in each line. A position is a byte and its line."""

    def __init__(self, path: Path, schema: _JsonSchema) -> None:
        self.path, self._schema = path, schema

    def schema(self) -> Any:
        """Return its columns."""
        return self._schema.value

    def batches(self, position: Position, columns: list[str]) -> Iterator[Batch]:
        """Yield its objects as rows; what one lacks is missing."""
        for objects, first, after in json_objects(self.path, position):
            rows = self._schema.batch(self.path, first, objects)
            yield Batch(rows.select(columns), first, after)
