"""The same model trained in one place: what distributed training is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_shared.tensors.layout import load_tensors
from pleb_shared.tensors.version import apply_difference
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.graph import CompiledGraph
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from pleb_project.check.draft import Draft
    from pleb_project.readers.blobs import BlobFolder

__all__ = ["train_centrally"]


def train_centrally(draft: Draft, blobs: BlobFolder, steps: int, seed: int = 0) -> dict[str, float]:
    """Return the holdout's metrics after `steps` steps on all data in this process.

    Model, version 0, batch, inner optimizer and the course of the learning rate are the project's;
    there is no outer step, no codec and no restart of the optimizer. All shards together must
    fit into memory.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    shards = [load_tensors(blobs.get(shard.digest)) for shard in draft.dataset.shards.train]
    training = msgspec.structs.replace(
        draft.metadata.training, versions=1, local_steps=steps, unit_warmup_steps=0
    )
    metadata = msgspec.structs.replace(draft.metadata, training=training)
    version = load_tensors(draft.exported.initial)
    unit = Unit(
        kind=UnitKind.TRAIN,
        epoch=0,
        version=0,
        shards=ShardRange(first=0, count=len(shards)),
        seed=seed,
        local_steps=steps,
    )
    graph = CompiledGraph(parse_graph(draft.exported.training_graph))
    run = UnitRun(graph, metadata, unit, version, None, shards)
    while run.steps_done < run.steps_total:
        run.step()
    change = {name: -array for name, array in run.exact_delta().items()}
    trained = apply_difference(version, change, metadata.model)
    holdout = [load_tensors(blobs.get(shard.digest)) for shard in draft.dataset.shards.holdout]
    test = CompiledGraph(parse_graph(draft.exported.evaluation_graph))
    return evaluate(test, metadata, unit, trained, holdout)[0]
