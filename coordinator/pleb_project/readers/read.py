"""The entry to all readers: a project's [data] section becomes a data set in blobs."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
from pleb_project.readers.spool import Rows, Spool
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import InputSpec

if TYPE_CHECKING:
    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.blobs import BlobFolder

__all__ = ["read_dataset"]

Chunks = Iterator[tuple[Rows, str]]
"""Examples, each chunk with its place for errors."""

_SKLEARN_SETS: Final = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
_TEXT_BYTES: Final = 2**20


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
        return iter([(_read_sklearn(name), data.source)]), None, tuple
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
        _fill(first, _read_text(files) if files else _read_builtin_text())
        text = first.rows()["x"]
        if kept:
            _fill(second, _read_text(kept))
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


def _read_text(paths: list[Path]) -> Chunks:
    """Yield the bytes of the files in order as `x` uint8, each chunk with its place.

    Raises:
        InputError: a file cannot be read or is empty.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                if not path.stat().st_size:
                    raise InputError(f"{path} is empty: name a file with text in it.")
                while data := file.read(_TEXT_BYTES):
                    yield {"x": np.frombuffer(data, np.uint8)}, str(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _read_builtin_text() -> Chunks:
    """Yield Python's own help texts (`pydoc_data.topics`) in the order of their names."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        text = f"{topics[name].strip()}\n\n".encode()
        yield {"x": np.frombuffer(text, np.uint8)}, f"pydoc_data.topics[{name!r}]"


def _read_sklearn(name: str) -> Rows:
    """Return `x` float32 and `y` of a data set; digits as images [8, 8], the rest as tables.

    Tables are standardised by column. `y` is int64 for classes and float32 for numbers.

    Raises:
        InputError: there is no such data set, or no scikit-learn.
    """
    if name not in _SKLEARN_SETS:
        known = ", ".join(f"sklearn:{known}" for known in _SKLEARN_SETS)
        raise InputError(f"There is no data set 'sklearn:{name}'; there are {known}.")
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InputError(
            "scikit-learn is missing: install it with `pip install scikit-learn`."
        ) from error
    bunch = getattr(datasets, f"load_{name}")()
    classes = bunch["target"].dtype.kind in "iu"
    y = bunch["target"].astype(np.int64 if classes else np.float32)
    if name == "digits":
        return {"x": bunch["images"].astype(np.float32) / np.float32(16), "y": y}
    table = bunch["data"].astype(np.float64)
    spread = table.std(axis=0)
    standard = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return {"x": standard.astype(np.float32), "y": y}
