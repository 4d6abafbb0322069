"""The chunks of a draft: their graphs, what they train, and the memory that each takes."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from pleb_project.definition.chunk_words import Width, parse_chunk
from pleb_project.export.chunks import freeze, layers_in_order
from pleb_project.export.narrow import narrow
from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.chunk import Chunk, needed_memory
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.parts import blob_of
from pleb_shared.tensors.chunk_view import view_of
from pleb_shared.training.dry_run import training_cost

if TYPE_CHECKING:
    from collections.abc import Collection
    from fractions import Fraction

    from pleb_shared.protocol.chunk import Window
    from pleb_shared.protocol.graph import Graph
    from pleb_shared.protocol.project import DataSpec, ModelSpec, Training
    from pleb_shared.tensors.chunk_view import ChunkView

__all__ = ["PlannedChunk", "plan_chunks"]


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk and the bytes of its graph."""

    chunk: Chunk
    graph: bytes


def plan_chunks(
    wanted: Collection[str],
    graph: Graph,
    model: ModelSpec,
    data: DataSpec,
    training: Training,
    shard_bytes: int,
) -> list[PlannedChunk]:
    """Return the chunks that the project file asks for, the one that takes most memory first.

    Args:
        wanted: as the file has them.
        graph: the training graph of the whole model.
        model: its tensors.
        data: the inputs.
        training: the batch, and the optimizer whose state needs memory.
        shard_bytes: what a unit's shards take.

    Raises:
        InputError: one cannot be made of this model, or saves no memory; the sentence says why.
    """
    planner = _Planner(graph, model, data, training, shard_bytes)
    planned = [planner.planned(text) for text in wanted]
    for found in planned:
        if found.chunk.memory_bytes >= planner.full_bytes:
            raise InputError(
                f"The chunk {found.chunk.name!r} takes {_mib(found.chunk.memory_bytes)}, the whole "
                f"model {_mib(planner.full_bytes)}: remove it from chunks in [limits]."
            )
    return sorted(planned, key=lambda found: -found.chunk.memory_bytes)


class _Planner:
    def __init__(
        self, graph: Graph, model: ModelSpec, data: DataSpec, training: Training, shard_bytes: int
    ) -> None:
        self._graph, self._model, self._data, self._training = graph, model, data, training
        self._shard_bytes = shard_bytes
        view = view_of(model, None)
        self.full_bytes = shard_bytes + self._cost(graph, view_of(model, None))
        self._names = [spec.name for spec in view.model.parameters]

    def planned(self, text: str) -> PlannedChunk:
        words = parse_chunk(text)
        if isinstance(words, Width):
            return self._narrower(text, words.share)
        if words.share is not None:
            return self._last_layers(text, words.share)
        return self._of(text, self._matching(text, words.patterns))

    def _cost(self, graph: Graph, view: ChunkView) -> int:
        training = self._training
        rest = (self._data, training.batch_examples, training.optimizer)
        return training_cost(graph, view, *rest).memory_bytes

    def _matching(self, text: str, patterns: Collection[str]) -> set[str]:
        found: set[str] = set()
        for pattern in patterns:
            names = fnmatch.filter(self._names, pattern)
            if not names:
                raise InputError(
                    f"The chunk {text!r} names {pattern!r}, but no trained parameter has that "
                    f"name; there are {', '.join(self._names[:12])}."
                )
            found.update(names)
        return found

    def _last_layers(self, text: str, share: Fraction) -> PlannedChunk:
        """Return the chunk of the most layers that fit into that share of the memory needed.

        More layers take more memory, so their number is found by halving.
        """
        layers = layers_in_order(self._graph)

        @cache
        def last(count: int) -> PlannedChunk:
            return self._of(text, {name for layer in layers[-count:] for name in layer})

        whole = needed_memory(self.full_bytes)
        most = int(share * whole)
        fits, too_many = 0, len(layers)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if needed_memory(last(middle).chunk.memory_bytes) <= most:
                fits = middle
            else:
                too_many = middle
        if not fits:
            least = last(1).chunk.memory_bytes if len(layers) > 1 else self.full_bytes
            raise InputError(
                f"The chunk {text!r} may take {_mib(most)}, but the last layer alone takes "
                f"{_mib(needed_memory(least))} of the {_mib(whole)} of the whole model: "
                "take a larger share, or a smaller batch."
            )
        return last(fits)

    def _narrower(self, text: str, share: Fraction) -> PlannedChunk:
        graph, windows = narrow(self._graph, share)
        if not windows:
            raise InputError(
                f"Nothing can be left out of this model for {text!r}: no column, head or channel "
                "lies between two trained layers that are not joined by anything else. "
                "Try 'layers:1/2' in [limits]."
            )
        return self._planned(text, graph, self._names, windows)

    def _of(self, text: str, trained: Collection[str]) -> PlannedChunk:
        return self._planned(text, freeze(self._graph, trained), trained, [])

    def _planned(
        self, text: str, made: Graph, trained: Collection[str], windows: list[Window]
    ) -> PlannedChunk:
        graph = parse_graph(data := strict_json.encode(made))
        draft = Chunk(
            name=text,
            training_graph=blob_of(data),
            parameters=[name for name in self._names if name in trained],
            memory_bytes=2**20,
            windows=windows,
        )
        memory = self._shard_bytes + self._cost(graph, view_of(self._model, draft))
        return PlannedChunk(msgspec.structs.replace(draft, memory_bytes=memory), data)


def _mib(size: int) -> str:
    return f"{-(-size >> 20)} MiB"
