"""Projects trained in this process: the product's units, codec, combination and outer step.

There are no servers, hosts or lies, so only what the project file decides about learning is left.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from pleb_coordinator.aggregation.chunked import Chunks
from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_coordinator.core.planning import round_units, warm_start_units
from pleb_coordinator.core.records import Facts
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_shared.tensors.format import difference_format
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.tensors.packing import pack
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Deltas = list[tuple[bytes, float]]

    from pleb_project.check.draft import Draft
    from pleb_project.readers.blobs import BlobFolder
    from pleb_shared.protocol.project import ProjectMetadata, Shard


def train_in_rounds(
    draft: Draft,
    blobs: BlobFolder,
    seed: int = 0,
    chunks: Sequence[str] = (),
    moved: Callable[[int], None] = lambda _: None,
    arrived: Callable[[int, Deltas, OuterState], Deltas] = lambda _number, deltas, _state: deltas,
    length: Callable[[], float] = lambda: 1.0,
    own: Sequence[Sequence[Tensors]] = (),
) -> Tensors:
    """Return the last version of a project whose every planned unit is computed and counts.

    `seed` changes the order of data and the draws of every unit. `chunks`: what the first units of
    every round train, the others are left out; empty: all units train the whole model. `moved` gets
    the bytes of every delta and difference, packed as they travel. `arrived` gets the number of a
    round, its deltas with their weights and the outer state, and returns those that are combined.
    `length` gives the part of its steps that the next unit computes; no warm start is shortened.
    `own`: the shards of each member's own data, in place of the project's: unit k of a round is
    member k's, trained on the one whose turn it is.
    """
    metadata = draft.metadata
    graphs = {FULL: draft.exported.compiled(draft.exported.training_graph)}
    for planned_chunk in draft.chunks:
        graph = draft.exported.compiled(planned_chunk.graph, partly=True)
        graphs[planned_chunk.chunk.name] = graph
    shards = _loaded(draft.dataset.shards.train, blobs)
    facts = Facts(0, len(shards), 0, 0)
    version, difference = load_tensors(draft.exported.initial), None
    state = OuterState.initial(version, metadata.model)
    for number in range(metadata.training.versions):
        deltas: Deltas = []
        warm = number < metadata.training.warm_start_versions
        units = (warm_start_units if warm else round_units)(metadata, facts, number)
        covered = [FULL] if warm else [*chunks] or [FULL] * len(units)
        for planned, chunk in zip(units, covered, strict=False):
            steps = planned.local_steps
            steps = steps if warm else max(1, round(steps * length()))
            unit = Unit(
                kind=UnitKind.TRAIN,
                epoch=0,
                version=number,
                shards=ShardRange(first=planned.shard_first, count=planned.shard_count),
                seed=planned.seed ^ seed,
                local_steps=steps,
                chunk=chunk,
                batches_per_step=planned.batches_per_step,
            )
            indices = range(planned.shard_first, planned.shard_first + planned.shard_count)
            mine = [shards[i % len(shards)] for i in indices]
            if own:
                theirs = own[planned.position % len(own)]
                mine = [theirs[number % len(theirs)]]
            run = UnitRun(graphs[chunk], metadata, unit, version, difference, mine)
            while run.steps_done < run.steps_total:
                run.step()
            deltas.append((run.delta(), float(steps * metadata.training.batch_examples)))
            moved(len(pack(deltas[-1][0])))
        deltas = arrived(number, deltas, state)
        parts = Chunks(tuple(covered), number) if chunks else None
        noise = hashlib.sha256(f"{seed}/{number}".encode()).digest()  # as good as secret here
        made = next_version(
            version, state, deltas, metadata, warm_start=warm, chunks=parts, noise=noise
        )
        version, state = made.version, made.state
        published = difference_format(metadata)
        moved(len(made.difference))
        difference = published.decode(published.unpack(made.difference))
    return version


def on_holdout(draft: Draft, blobs: BlobFolder, version: Tensors) -> dict[str, float]:
    """Return the metrics of a version [the shapes of the model's specs] on the whole holdout."""
    graph = draft.exported.compiled(draft.exported.evaluation_graph)
    unit = Unit(
        kind=UnitKind.EVALUATE,
        epoch=0,
        version=0,
        shards=ShardRange(first=0, count=1),
        seed=0,
        local_steps=0,
    )
    shards = _loaded(draft.dataset.shards.holdout, blobs)
    return evaluate(graph, draft.metadata, unit, version, shards)[0]


def samples_of(metadata: ProjectMetadata) -> int:
    """Return how many examples all planned units train on, each as often as it is used."""
    training = metadata.training
    warm = training.warm_start_versions
    units = warm * training.warm_start_batches
    units += (training.versions - warm) * metadata.round.units
    return units * training.local_steps * training.batch_examples


def changed(draft: Draft, **sections: dict[str, object]) -> Draft:
    """Return the draft with other settings, by the section of the metadata, such as `training`."""
    replaced = {
        name: msgspec.structs.replace(getattr(draft.metadata, name), **changes)
        for name, changes in sections.items()
    }
    metadata = msgspec.structs.replace(draft.metadata, **replaced)
    return type(draft)(
        draft.definition, draft.dataset, draft.exported, metadata, draft.predicted_memory_bytes
    )


def _loaded(shards: Sequence[Shard], blobs: BlobFolder) -> list[Tensors]:
    return [load_tensors(blobs.get(shard.digest)) for shard in shards]
