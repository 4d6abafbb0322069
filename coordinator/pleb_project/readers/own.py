"""How hosts read data of their own, learned from the researcher's files."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from pleb_project.readers.json_lines import columns_learned
from pleb_shared.errors import InputError
from pleb_shared.protocol.own_data import OwnColumn, OwnData, OwnRange, OwnReader, OwnTable
from pleb_shared.tensors.layout import load_tensors
from pleb_system.reading.columns import Column, Columns

if TYPE_CHECKING:
    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.readers.shards import Dataset

__all__ = ["own_form"]


def own_form(
    data: DataSection, dataset: Dataset, classes: tuple[str, ...], learned: bytes, blobs: BlobFolder
) -> OwnData:
    """Return how a host reads a folder like the researcher's files.

    `classes`: the subfolders of images; `learned`: what a table's first reading found. What whole
    numbers an input may have is what it has there.

    Raises:
        InputError: hosts cannot read such examples.
    """
    if data.source == "jsonl":
        texts = [spec.name for spec in dataset.spec.inputs if spec.dtype == "uint8"]
        if texts:
            raise InputError(
                f"Hosts read numbers from JSON lines, and {texts[0]!r} is made of texts or files: "
                'drop it, or use source = "images".'
            )
    table = None
    if data.source == "csv":
        table = _table(data, msgspec.json.decode(learned, type=Columns))
    elif data.source == "jsonl" and data.target:
        table = _table(data, columns_learned(learned))
    return OwnData(
        reader=cast("OwnReader", data.source),
        ranges=_ranges(dataset, blobs),
        table=table,
        classes=[] if data.source != "images" or classes == ("",) else list(classes),
        image_size=data.image_size,
        channels=data.channels,
    )


def _table(data: DataSection, columns: Columns) -> OwnTable:
    return OwnTable(
        inputs=[_column(column) for column in columns.inputs],
        target=_column(columns.target),
        header=data.header,
        delimiter=data.delimiter,
        missing=list(data.missing),
    )


def _column(column: Column) -> OwnColumn:
    if column.codes:
        return OwnColumn(
            name=column.name, categories=sorted(column.codes, key=lambda value: column.codes[value])
        )
    return OwnColumn(name=column.name, mean=column.mean, spread=column.spread)


def _ranges(dataset: Dataset, blobs: BlobFolder) -> list[OwnRange]:
    """Return the least and the largest whole number of each input that has some."""
    found: dict[str, tuple[int, int]] = {}
    for shard in (*dataset.shards.train, *dataset.shards.holdout):
        for name, array in load_tensors(blobs.get(shard.digest)).items():
            if array.dtype.name in {"int32", "int64"} and array.size:
                least, most = found.get(name, (int(array.min()), int(array.max())))
                found[name] = min(least, int(array.min())), max(most, int(array.max()))
    names = [spec.name for spec in dataset.spec.inputs if spec.name in found]
    return [OwnRange(name=name, least=found[name][0], most=found[name][1]) for name in names]
