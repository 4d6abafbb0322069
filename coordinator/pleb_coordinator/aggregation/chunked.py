"""A round whose deltas cover different parts of the model becomes one g.

Every number is combined over those deltas that hold it. Numbers that the same deltas hold are
combined together, as a model of their own would be: by the project's rule, with norms and distances
over those numbers alone, so that only like is compared with like. With `mean`, for number e:

    g_e = sum_k w_k c_k d_k,e / sum_k w_k    over the deltas k that hold e

What no delta holds is *untouched*: g is 0 there, and the outer step leaves it as it is.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pleb_coordinator.aggregation.combine import (
    Cell,
    Encoded,
    Floats,
    combined_buffers,
    combined_cells,
)
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.project import elements
from pleb_shared.tensors.chunk_view import chunk_view
from pleb_shared.tensors.format import buffer_dtype, training_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pleb_coordinator.core.records import VersionInput
    from pleb_shared.protocol.project import ProjectMetadata, TensorSpec
    from pleb_shared.tensors.chunk_view import ChunkView
    from pleb_shared.tensors.format import DeltaFormat
    from pleb_shared.tensors.layout import Tensors

__all__ = ["Chunks", "chunks_of", "combined_chunks"]

Untouched = dict[str, "NDArray[np.bool_]"]


@dataclass(frozen=True)
class Chunks:
    """Which part of the model each delta of a round covers."""

    names: tuple[str, ...]
    """The chunk of each delta, in the order of the deltas."""
    version: int
    """The version that they start from, which windows go by."""

    @property
    def is_whole(self) -> bool:
        """Whether every delta covers the whole model."""
        return all(name == FULL for name in self.names)


def chunks_of(inputs: Sequence[VersionInput], version: int) -> Chunks:
    """Return the chunks of what made the version after `version`."""
    return Chunks(tuple(entry.chunk for entry in inputs), version)


def combined_chunks(
    deltas: Sequence[Encoded], weights: Sequence[float], chunks: Chunks, metadata: ProjectMetadata
) -> tuple[Tensors, Untouched]:
    """Return g, and where nobody trained.

    Args:
        deltas: encoded deltas, each in its chunk's format, in the order in which they are added.
        weights: the samples that each was trained on.
        chunks: what each covers.
        metadata: the model and the rule.

    Returns:
        Every tensor of the model in its own shape, as `combined_delta` does; and [*shape] of the
        parameters of which some numbers were trained by nobody.

    Raises:
        EncodingError: `wrong_size`.
    """
    model, rule = metadata.model, metadata.outer
    parts = [_Part(metadata, *pair) for pair in zip(deltas, chunks.names, strict=True)]
    names = list(dict.fromkeys(chunks.names))
    views = [chunk_view(metadata, name) for name in names]
    result: Tensors = {spec.name: np.zeros(spec.shape, np.float32) for spec in model.parameters}
    untouched: Untouched = {}
    groups: dict[tuple[str, ...], list[_Held]] = defaultdict(list)
    for spec in model.parameters:
        missing = np.ones(spec.shape, np.bool_)
        for held in _held(spec, views, chunks.version):
            groups[tuple(names[i] for i in held.holders)].append(held)
            missing.reshape(-1)[held.places] = False
        if missing.any():
            untouched[spec.name] = missing
    step = training_format(metadata).stretch_step
    for number, (holders, tensors) in enumerate(groups.items()):
        members = [k for k, name in enumerate(chunks.names) if name in holders]
        readers = [parts[k] for k in members]
        cells = [_cell(f"{number}/{i}", held, readers) for i, held in enumerate(tensors)]
        found = combined_cells(cells, [weights[k] for k in members], step, rule)
        for i, held in enumerate(tensors):
            result[held.spec.name].reshape(-1)[held.places] = found[f"{number}/{i}"]
    return result | _mean_buffers(parts, weights, metadata), untouched


class _Held(NamedTuple):
    """Numbers of one parameter that the same chunks hold."""

    spec: TensorSpec
    places: NDArray[np.intp] | slice
    """Where they lie in the parameter, flattened."""
    holders: tuple[int, ...]
    own: dict[str, NDArray[np.intp]]
    """By a chunk's name: where they lie in its own tensor, flattened; empty: they are all of it."""
    numbers: int


def _held(spec: TensorSpec, views: Sequence[ChunkView], version: int) -> list[_Held]:
    """Return the numbers of a parameter, by the chunks that hold them; none that nobody holds."""
    having = [i for i, view in enumerate(views) if _has(view, spec.name)]
    if not any(views[i].is_narrowed(spec.name) for i in having):
        whole = _Held(spec, slice(None), tuple(having), {}, elements(spec))
        return [whole] if having else []
    bits = np.zeros(spec.shape, np.uint16)
    shape = tuple(spec.shape)
    for i in having:
        places = views[i].places(spec.name, shape, version)
        bits[... if places is None else places] |= np.uint16(1 << i)
    found = []
    for value in np.unique(bits).tolist():
        holders = tuple(i for i in having if value >> i & 1)
        if not holders:
            continue
        own = {}
        for i in holders:
            mine = views[i].narrowed(spec.name, bits, version)
            own[_name(views[i])] = np.flatnonzero(mine.reshape(-1) == value)
        places_of = np.flatnonzero(bits.reshape(-1) == value)
        found.append(_Held(spec, places_of, holders, own, places_of.size))
    return found


def _has(view: ChunkView, name: str) -> bool:
    return view.chunk is None or name in view.chunk.parameters


def _name(view: ChunkView) -> str:
    return FULL if view.chunk is None else view.chunk.name


class _Part:
    """One delta of a chunk; a parameter that is read in pieces is decoded once."""

    def __init__(self, metadata: ProjectMetadata, data: Encoded, chunk: str) -> None:
        self.chunk, self.data = chunk, data
        self.encoding: DeltaFormat = training_format(metadata, chunk)
        self._parts = {spec.name: (spec, raw) for spec, raw in self.encoding.parameter_parts(data)}
        self._decoded: tuple[str, Floats] | None = None

    def read(self, cell: str, held: _Held, start: int, stop: int) -> Floats:
        """Return numbers [stop - start] of what is `held`; `cell` names it among all others."""
        spec, raw = self._parts[held.spec.name]
        if not held.own:
            return self.encoding.decode_stretch(raw, elements(spec), start, stop)
        if self._decoded is None or self._decoded[0] != cell:
            every = self.encoding.decode_stretch(raw, elements(spec), 0, elements(spec))
            self._decoded = cell, every[held.own[self.chunk]]
        return self._decoded[1][start:stop]


def _cell(name: str, held: _Held, readers: Sequence[_Part]) -> Cell:
    def read(k: int, start: int, stop: int) -> Floats:
        return readers[k].read(name, held, start, stop)

    return Cell(name, held.numbers, read)


def _mean_buffers(
    parts: Sequence[_Part], weights: Sequence[float], metadata: ProjectMetadata
) -> Tensors:
    """Return the mean of the buffers' deltas [*shape] over those that send them; else zeros."""
    sending = [k for k, part in enumerate(parts) if part.encoding.model.buffers]
    if not sending:
        return {s.name: np.zeros(s.shape, buffer_dtype(s)) for s in metadata.model.buffers}
    encoding = parts[sending[0]].encoding
    data, counts = [parts[k].data for k in sending], [weights[k] for k in sending]
    return combined_buffers(data, counts, encoding, metadata.outer.norm_band)
