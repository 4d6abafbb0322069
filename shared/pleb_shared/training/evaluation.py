"""An evaluation unit: metrics of a version on holdout shards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from pleb_shared.errors import TrainingError
from pleb_shared.tensors.layout import Tensors, check_version
from pleb_shared.training.data import UnitData
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import check_graph, dry_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.unit import Unit
    from pleb_shared.training.dry_run import Cost
    from pleb_shared.training.graph import CompiledGraph

__all__ = ["evaluate"]


@torch.no_grad()
def evaluate(
    graph: CompiledGraph,
    metadata: ProjectMetadata,
    unit: Unit,
    version: Tensors,
    shards: list[Tensors],
    between_batches: Callable[[], None] = lambda: None,
    approve: Callable[[Cost], None] = lambda _: None,
) -> tuple[dict[str, float], int]:
    """Return the metrics' means over all examples of `shards`, and the number of examples.

    `version` holds the version's tensors by name, in the shapes of `metadata.model`, and `graph`
    has the model's base; a shard holds
    [examples, *shape] for each input, or one flat array of windows. `between_batches` is called
    before every batch; an exception from it stops the evaluation, and so does one from
    `approve`, which gets what a run costs before the first of each batch size.

    The evaluation graph returns means over a batch of any size, so the last batch may be short;
    each batch is weighted by its examples. Rows are taken in order, windows without overlap.

    Raises:
        GraphError: the graph does not belong to this project, or refuses a batch of such a size.
        TrainingError: a metric is not a finite number.
        EncodingError: the version or a shard is invalid.
    """
    check_graph(graph.graph, metadata.model, metadata.data, batch_examples=None)
    check_version(version, metadata.model)
    data = UnitData(metadata.data, shards)
    tensors = {
        name: torch.from_numpy(np.array(array, order="C")).to(graph.device)
        for name, array in version.items()
    }
    approved: set[int] = set()
    sums: dict[str, float] = {}
    count = 0
    for arrays in data.evaluation_batches(metadata.training.batch_examples):
        between_batches()
        inputs = {n: torch.from_numpy(array).to(graph.device) for n, array in arrays.items()}
        size = len(next(iter(arrays.values())))
        if (
            size not in approved
        ):  # what a graph computes from a batch's size may explode for another
            approve(dry_run(graph.graph, trains=False, batch_examples=size))
            approved.add(size)
        outputs = graph.run(tensors, tensors, inputs, NodeDraws(unit.seed, count))
        count += size
        for name, value in outputs.items():
            sums[name] = sums.get(name, 0.0) + float(value) * size
    means = {name: total / count for name, total in sums.items()}
    for name, mean in means.items():
        if not math.isfinite(mean):
            raise TrainingError(f"The metric {name!r} of version {unit.version} is {mean}.")
    return means, count
