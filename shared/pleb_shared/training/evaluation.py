"""An evaluation unit: metrics of a version on holdout shards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from pleb_shared.errors import TrainingError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.tensors.chunk_view import view_of
from pleb_shared.tensors.layout import Tensors, check_version
from pleb_shared.training.data import UnitData
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import check_graph, dry_run
from pleb_shared.training.metrics import FROM_LOSS, whole_holdout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pleb_shared.protocol.graph import Output
    from pleb_shared.protocol.project import HoldoutMetric, ProjectMetadata
    from pleb_shared.protocol.unit import Unit
    from pleb_shared.training.dry_run import Cost
    from pleb_shared.training.graph import CompiledGraph

__all__ = ["evaluate"]

_LARGEST_EXPONENT: Final = 700.0
"""exp of more is no float64; a loss that large is told by itself."""


@torch.no_grad()
def evaluate(
    graph: CompiledGraph,
    metadata: ProjectMetadata,
    unit: Unit,
    version: Tensors,
    shards: Sequence[Tensors],
    between_batches: Callable[[], None] = lambda: None,
    approve: Callable[[Cost], None] = lambda _: None,
) -> tuple[dict[str, float], int]:
    """Return the metrics of all examples of `shards` by name, and the number of examples.

    `version` holds the version's tensors by name, in the shapes of `metadata.model`, and `graph`
    has the model's base; a shard holds
    [examples, *shape] for each input, or one flat array of windows. `between_batches` is called
    before every batch; an exception from it stops the evaluation, and so does one from
    `approve`, which gets what a run costs before the first of each batch size.

    The last batch may be short. Means over a batch are weighted by its examples, a sum and a count
    are added up and divided, and from predictions and targets those metrics of the whole holdout
    are computed that `metadata.evaluation` names. Rows are taken in order, windows without overlap.

    Raises:
        GraphError: the graph does not belong to this project, or refuses a batch of such a size.
        TrainingError: a metric is not a finite number, or cannot be computed from the predictions.
        EncodingError: the version or a shard is invalid.
    """
    check_graph(graph.graph, view_of(metadata.model, None), metadata.data, batch_examples=None)
    check_version(version, metadata.model)
    data = UnitData(metadata.data, shards)
    tensors = {
        name: torch.from_numpy(np.array(array, order="C")).to(graph.device)
        for name, array in version.items()
    }
    approved: set[int] = set()
    totals = _Totals(graph.graph.outputs)
    batch = metadata.evaluation.batch_examples or metadata.training.batch_examples
    for arrays in data.evaluation_batches(batch):
        between_batches()
        inputs = {n: torch.from_numpy(array).to(graph.device) for n, array in arrays.items()}
        size = len(next(iter(arrays.values())))
        if (
            size not in approved
        ):  # what a graph computes from a batch's size may explode for another
            approve(dry_run(graph.graph, trains=False, batch_examples=size))
            approved.add(size)
        draws = NodeDraws(unit.seed, totals.examples)
        totals.add(graph.run(tensors, tensors, inputs, draws), size)
    found = totals.metrics(metadata.evaluation.metrics)
    for name, value in found.items():
        if not math.isfinite(value):
            raise TrainingError(f"The metric {name!r} of version {unit.version} is {value}.")
    return found, totals.examples


class _Totals:
    """What the batches of a holdout add up to, by the kind of each output."""

    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs
        self._sums = {output.key: 0.0 for output in outputs}
        self._parts: dict[str, list[NDArray[Any]]] = {output.key: [] for output in outputs}
        self._numbers = 0
        self.examples = 0

    def add(self, values: dict[str, torch.Tensor], size: int) -> None:
        """Add the outputs of a batch of `size` examples: scalars, or [size, ...]."""
        self.examples += size
        for output in self._outputs:
            value = values[output.key]
            if output.kind in {"predictions", "targets"}:
                if value.shape[0] != size:
                    message = f"{output.key} has {value.shape[0]} rows for {size} examples."
                    raise TrainingError(message)
                self._numbers += value.numel()
                if self._numbers > LIMITS.predictions:
                    message = f"Predictions and targets of more than {LIMITS.predictions} numbers."
                    raise TrainingError(message)
                # float32 has every class below 2^24, and no bfloat16 is known to numpy
                small = value.float() if value.is_floating_point() else value
                self._parts[output.key].append(small.cpu().numpy().copy())
            else:
                weight = size if output.kind == "mean" else 1
                self._sums[output.key] += float(value) * weight

    def metrics(self, wanted: list[HoldoutMetric]) -> dict[str, float]:
        """Return the metrics by name: those of the outputs, and those that are `wanted`."""
        found: dict[str, float] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for output in self._outputs:
            total = self._sums[output.key]
            if output.kind == "mean":
                found[output.name] = total / self.examples
            elif output.kind == "sum":
                count = self._sums[f"{output.name}/count"]
                if not count:
                    message = f"The metric {output.name!r} has counted nothing in the holdout."
                    raise TrainingError(message)
                found[output.name] = total / count
            elif output.kind != "count":
                arrays[output.kind] = np.concatenate(self._parts[output.key])
        if FROM_LOSS in wanted:
            found[FROM_LOSS] = math.exp(min(found["loss"], _LARGEST_EXPONENT))
        of_predictions = [name for name in wanted if name != FROM_LOSS]
        if of_predictions:
            found |= whole_holdout(of_predictions, arrays["predictions"], arrays["targets"])
        return found
