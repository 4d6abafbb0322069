"""Parquet files, and Hugging Face `datasets` on disk: rows that Arrow reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_project.readers.arrow import Batch, arrow_source
from pleb_project.readers.files import find_files
from pleb_shared.errors import InputError
from pleb_system.reading.extras import need
from pleb_system.reading.source import EXAMPLE_BYTES, Position, Source, chunk_examples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection

__all__ = ["huggingface_source", "parquet_source"]

_FOOTER_BYTES: Final = 64 * 2**20
_CONTAINER_ITEMS: Final = 10_000_000


def parquet_source(data: DataSection, folder: Path) -> Source:
    """Return the rows of Parquet files."""
    endings = (".parquet", ".pq")
    files = find_files(data.files, folder, endings)
    kept = find_files(data.holdout_files, folder, endings)
    return arrow_source(
        [_Parquet(path) for path in files],
        [_Parquet(path) for path in kept],
        data,
        [*files, *kept],
    )


class _Parquet:
    """A Parquet file. A position's first number is that of a row group."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow = need("pyarrow", "pyarrow", "Parquet files")

    def schema(self) -> Any:
        """Return its columns."""
        with self._opened() as file:
            return file.schema_arrow

    def batches(self, position: Position, columns: list[str]) -> Iterator[Batch]:
        """Yield its rows page by page, never a whole row group."""
        group, first = position
        with self._opened() as file:
            try:
                for number in range(group, file.num_row_groups):
                    info = file.metadata.row_group(number)
                    row_bytes = info.total_byte_size // max(1, info.num_rows)
                    if row_bytes > EXAMPLE_BYTES:
                        raise InputError(
                            f"{self.path}: the rows from {first + 1} on have {row_bytes} bytes "
                            f"each; at most {EXAMPLE_BYTES} are read."
                        )
                    most = chunk_examples(row_bytes)
                    end = first + info.num_rows
                    for rows in file.iter_batches(
                        most, row_groups=[number], columns=columns, use_threads=False
                    ):
                        after = (number + 1, end) if first + len(rows) >= end else None
                        yield Batch(rows, first, after)
                        first += len(rows)
                # Else its pool keeps what the largest batch took, beside what training takes later.
                self._arrow.default_memory_pool().release_unused()
            except (self._arrow.ArrowException, OSError, MemoryError) as error:
                raise InputError(
                    f"{self.path}, after row {first}, cannot be read as Parquet: {error}."
                ) from error

    def _opened(self) -> Any:
        parquet = need("pyarrow.parquet", "pyarrow", "Parquet files")
        try:
            return parquet.ParquetFile(
                self.path,
                buffer_size=1 << 20,
                pre_buffer=False,
                thrift_string_size_limit=_FOOTER_BYTES,
                thrift_container_size_limit=_CONTAINER_ITEMS,
            )
        except (self._arrow.ArrowException, OSError) as error:
            raise InputError(f"{self.path} cannot be read as Parquet: {error}.") from error


def huggingface_source(data: DataSection, folder: Path) -> Source:
    """Return the rows of what `datasets` wrote with `save_to_disk`.

    Of several splits, `train` is for training and `validation`, or else `test`, is the holdout.
    """
    train: list[Path] = []
    kept: list[Path] = []
    for name in data.files:
        splits = _splits(folder / name)
        train += splits["train"]
        kept += splits.get("holdout", [])
    if data.holdout_files:
        kept = [path for name in data.holdout_files for path in _splits(folder / name)["train"]]
    elif data.split_by or data.stratify_by:
        kept = []
    return arrow_source(
        [_ArrowStream(path) for path in train],
        [_ArrowStream(path) for path in kept],
        data,
        [*train, *kept],
    )


def _splits(folder: Path) -> dict[str, list[Path]]:
    """Return the Arrow files of a saved data set: for training, and for the holdout if it has."""
    state = _json(folder / "dataset_dict.json")
    if state is None:
        return {"train": _arrow_files(folder)}
    names = [str(name) for name in state.get("splits", [])]
    if not names:
        raise InputError(f"{folder / 'dataset_dict.json'} names no splits.")
    first = "train" if "train" in names else names[0]
    found = {"train": _arrow_files(folder / first)}
    for name in ("validation", "valid", "test"):
        if name in names and name != first:
            found["holdout"] = _arrow_files(folder / name)
            break
    return found


def _arrow_files(folder: Path) -> list[Path]:
    state = _json(folder / "state.json")
    if state is None:
        raise InputError(
            f"{folder} has no state.json: name a folder that `datasets` wrote with save_to_disk()."
        )
    try:
        return [folder / str(entry["filename"]) for entry in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'state.json'} does not name its files.") from error


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


class _ArrowStream:
    """A file in Arrow's streaming format. A position's first number is that of a batch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow = need("pyarrow", "pyarrow", "Data sets of Hugging Face")

    def schema(self) -> Any:
        """Return its columns."""
        with self._file() as file, self._reader(file) as reader:
            return reader.schema

    def batches(self, position: Position, columns: list[str]) -> Iterator[Batch]:
        """Yield its batches as they were written."""
        first, number = 0, 0
        with self._file() as file, self._reader(file) as reader:
            while True:
                try:
                    rows = reader.read_next_batch()
                except StopIteration:
                    return
                except (self._arrow.ArrowException, OSError, MemoryError) as error:
                    raise InputError(
                        f"{self.path}, after row {first}, cannot be read as Arrow: {error}."
                    ) from error
                number += 1
                if number > position[0]:
                    yield Batch(rows.select(columns), first, (number, 0))
                first += len(rows)

    def _file(self) -> Any:
        try:
            return self._arrow.OSFile(str(self.path), "rb")
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error}.") from error

    def _reader(self, file: Any) -> Any:
        try:
            return self._arrow.ipc.open_stream(file)
        except (self._arrow.ArrowException, OSError) as error:
            raise InputError(f"{self.path} cannot be read as Arrow: {error}.") from error
