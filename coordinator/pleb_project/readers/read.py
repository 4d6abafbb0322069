"""The entry to all readers: a project's [data] section becomes a data set in blobs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pleb_project.readers.csv_table import learn_table
from pleb_project.readers.idx import read_idx_pair
from pleb_project.readers.npz import read_npz
from pleb_project.readers.python_file import load_functions, read_python
from pleb_project.readers.shards import (
    Dataset,
    row_inputs,
    row_shards,
    split_rows,
    text_shards,
    write_dataset,
)
from pleb_project.readers.sklearn_sets import read_sklearn
from pleb_project.readers.spool import Rows, Spool
from pleb_project.readers.text import read_builtin_text, read_text
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import InputSpec

if TYPE_CHECKING:
    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.blobs import BlobFolder

__all__ = ["read_dataset"]

Chunks = Iterator[tuple[Rows, str]]


def read_dataset(data: DataSection, folder: Path, blobs: BlobFolder) -> Dataset:
    """Read the source that `data` names and write its shards to `blobs`.

    Paths are relative to `folder`. The same files and settings give the same shards.

    Raises:
        InputError: the data cannot be used; the message has the file and the row.
    """
    with tempfile.TemporaryDirectory(prefix="pleb-data-", dir=blobs.folder) as name:
        spools = Path(name)
        if data.source == "text":
            return _text(data, folder, spools, blobs)
        train, holdout, notes = _sources(data, folder)
        return _rows(data, spools, blobs, train, holdout, notes)


def _sources(
    data: DataSection, folder: Path
) -> tuple[Chunks, Chunks | None, Callable[[], tuple[str, ...]]]:
    """Return chunks for training, for the holdout (None: split it off), and notes."""
    files = [folder / file for file in data.files]
    kept = [folder / file for file in data.holdout_files]
    if data.source.startswith("sklearn:"):
        name = data.source.partition(":")[2]
        return iter([(read_sklearn(name), data.source)]), None, tuple
    if data.source == "csv":
        table = learn_table([*files, *kept], data)
        chunks = (chunk for file in files for chunk in table.rows(file))
        rest = (chunk for file in kept for chunk in table.rows(file))
        return chunks, rest if kept else None, lambda: table.notes
    if data.source == "idx":
        return read_idx_pair(*files), read_idx_pair(*kept) if kept else None, tuple
    if data.source == "npz":
        chunks = (chunk for file in files for chunk in read_npz(file))
        rest = (chunk for file in kept for chunk in read_npz(file))
        return chunks, rest if kept else None, tuple
    path = files[0] if files else folder / "data.py"
    functions = load_functions(path)
    if "examples" in functions:
        return read_python(path, functions["examples"]), None, tuple
    return read_python(path, functions["train"]), read_python(path, functions["holdout"]), tuple


def _rows(
    data: DataSection,
    spools: Path,
    blobs: BlobFolder,
    train: Chunks,
    holdout: Chunks | None,
    notes: Callable[[], tuple[str, ...]],
) -> Dataset:
    with Spool(spools, "train") as first, Spool(spools, "holdout") as second:
        _fill(first, train)
        rows = first.rows()
        if holdout is None:
            train_order, holdout_order = split_rows(first.examples, data.holdout, data.seed)
            kept = rows
        else:
            _fill(second, holdout)
            kept = second.rows()
            if row_inputs(kept) != row_inputs(rows):
                raise InputError(
                    f"The holdout has the inputs {_forms(kept)}, training has "
                    f"{_forms(rows)}: they must be the same."
                )
            order = np.random.Generator(np.random.Philox(data.seed)).permutation(first.examples)
            train_order, holdout_order = order.astype(np.int64), np.arange(second.examples)
        return write_dataset(
            blobs,
            {"kind": "rows", "inputs": row_inputs(rows)},
            row_shards(rows, train_order, data.shard_examples, blobs),
            row_shards(kept, holdout_order, data.shard_examples or len(holdout_order), blobs),
            notes(),
        )


def _text(data: DataSection, folder: Path, spools: Path, blobs: BlobFolder) -> Dataset:
    files = [folder / file for file in data.files]
    kept = [folder / file for file in data.holdout_files]
    with Spool(spools, "train") as first, Spool(spools, "holdout") as second:
        _fill(first, read_text(files) if files else read_builtin_text())
        text = first.rows()["x"]
        if kept:
            _fill(second, read_text(kept))
            rest = second.rows()["x"]
        else:
            start = round(text.size * (1 - data.holdout))
            text, rest = text[:start], text[start:]
        if min(text.size, rest.size) <= data.window:
            raise InputError(
                f"The text has {text.size} bytes for training and {rest.size} for the holdout; "
                f"each needs more than window = {data.window}."
            )
        inputs = [InputSpec(name=n, dtype="int64", shape=[data.window]) for n in ("x", "y")]
        return write_dataset(
            blobs,
            {"kind": "windows", "window": data.window, "inputs": inputs},
            text_shards(text, data.window, data.shard_examples, blobs),
            text_shards(rest, data.window, data.shard_examples or rest.size, blobs),
        )


def _fill(spool: Spool, chunks: Chunks) -> None:
    place = "the data"
    for rows, where in chunks:
        place = where
        spool.append(rows, place)
    if not spool.examples:
        raise InputError(f"There is no example in {place}: check files in [data].")


def _forms(rows: Rows) -> str:
    """Return name, dtype and shape of one example of each input."""
    return ", ".join(f"{name} {a.dtype} {list(a.shape[1:])}" for name, a in rows.items())
