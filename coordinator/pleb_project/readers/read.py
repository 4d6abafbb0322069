"""The entry to all readers: a project's [data] section becomes a data set in blobs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from pleb_project.readers.arrays import npy_source, npz_source
from pleb_project.readers.csv_table import csv_source
from pleb_project.readers.folders import folder_source
from pleb_project.readers.idx import idx_source
from pleb_project.readers.json_lines import jsonl_source
from pleb_project.readers.own import own_form
from pleb_project.readers.progress import fingerprint, open_work
from pleb_project.readers.python_file import python_source
from pleb_project.readers.rows import write_rows
from pleb_project.readers.tables import huggingface_source, parquet_source
from pleb_project.readers.webdataset import webdataset_source
from pleb_project.readers.windows import find_windows, write_windows
from pleb_shared.errors import InputError
from pleb_system.reading.extras import need
from pleb_system.reading.source import START, Chunk, Part, Position, Rows, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.readers.shards import Dataset

__all__ = ["read_dataset"]

_SKLEARN_SETS: Final = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


def read_dataset(
    data: DataSection,
    folder: Path,
    blobs: BlobFolder,
    say: Callable[[str], None] = lambda _: None,
) -> Dataset:
    """Read the source that `data` names and write its shards to `blobs`.

    Paths are relative to `folder`. The same files and settings give the same shards, and are not
    read again; a reading that was interrupted goes on. `say` gets the progress of a long one.

    Raises:
        InputError: the data cannot be used; the message has the file and the row.
        HomeInUseError: another command reads this project's data.
    """
    if data.source in {"text", "tokens"}:
        windows = find_windows(data, folder)
        with open_work(blobs, fingerprint(data, windows.files)) as work:
            if (dataset := work.finished()) is None:
                dataset = write_windows(windows, data, work, say)
                work.finish(dataset)
            return dataset
    source = _source(data, folder)
    with open_work(blobs, fingerprint(data, source.files)) as work:
        if (dataset := work.finished()) is None:
            dataset = write_rows(source, data, work, say)
            work.finish(dataset)
    if data.where == "host":
        own = own_form(data, dataset, source.classes, dataset.learned, blobs)
        return replace(dataset, spec=msgspec.structs.replace(dataset.spec, own=own))
    return dataset


def _source(data: DataSection, folder: Path) -> Source:
    if data.source.startswith("sklearn:"):
        return _sklearn_source(data.source.partition(":")[2])
    readers: dict[str, Callable[[DataSection, Path], Source]] = {
        "audio": folder_source,
        "csv": csv_source,
        "huggingface": huggingface_source,
        "idx": idx_source,
        "images": folder_source,
        "jsonl": jsonl_source,
        "npy": npy_source,
        "npz": npz_source,
        "parquet": parquet_source,
        "python": python_source,
        "webdataset": webdataset_source,
    }
    return readers[data.source](data, folder)


def _sklearn_source(name: str) -> Source:
    rows = _read_sklearn(name)

    def read(_: Position) -> Iterator[Chunk]:
        yield Chunk(rows, f"sklearn:{name}", START)

    return Source([Part(f"sklearn:{name}", read)])


def _read_sklearn(name: str) -> Rows:
    """Return `x` float32 and `y` of a data set; digits as images [8, 8], the rest as tables.

    Tables are standardised by column. `y` is int64 for classes and float32 for numbers.

    Raises:
        InputError: there is no such data set, or no scikit-learn.
    """
    if name not in _SKLEARN_SETS:
        known = ", ".join(f"sklearn:{known}" for known in _SKLEARN_SETS)
        raise InputError(f"There is no data set 'sklearn:{name}'; there are {known}.")
    datasets = need("sklearn.datasets", "scikit-learn", "scikit-learn's data sets")
    bunch = getattr(datasets, f"load_{name}")()
    classes = bunch["target"].dtype.kind in "iu"
    y = bunch["target"].astype(np.int64 if classes else np.float32)
    if name == "digits":
        return {"x": bunch["images"].astype(np.float32) / np.float32(16), "y": y}
    table = bunch["data"].astype(np.float64)
    spread = table.std(axis=0)
    standard = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return {"x": standard.astype(np.float32), "y": y}
