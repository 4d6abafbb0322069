"""Training in this process: does the loss fall, how long is a step, what would one place reach."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import torch

from pleb_project.export.parity import drawing_nodes
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_shared.tensors.format import delta_format
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.tensors.version import apply_difference
from pleb_shared.training.data import UnitData
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_project.check.draft import Draft
    from pleb_project.readers.blobs import BlobFolder
    from pleb_shared.protocol.project import ProjectMetadata, Shard

__all__ = ["Learning", "dry_run", "probe_step", "train_centrally"]

_JUDGED_STEPS: Final = 20
"""With fewer, a fall or a rise of the loss is chance."""
_PROBE_STEPS: Final = 3
_JUDGED: Final = 192
_PARTS: Final = 6
"""How many examples are evaluated whole and in parts to judge the metrics, at most and at least."""
_MEAN_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Learning:
    """Mean loss of the first and of the last steps, metrics before and after."""

    loss_first: float
    loss_last: float
    metrics_before: dict[str, float]
    metrics_after: dict[str, float]
    not_means: tuple[str, ...]
    """Metrics that `evaluate` returns as means over a batch although they are not."""
    units: int
    """How many units were trained in turn."""
    steps: int = _JUDGED_STEPS
    """How many local steps that were in all."""

    @property
    def falls(self) -> bool:
        """Whether training lowers its loss; True if too few steps were done to say that."""
        return self.loss_last < self.loss_first or self.steps < _JUDGED_STEPS


def dry_run(
    draft: Draft, blobs: BlobFolder, steps: int, units: int = 3
) -> tuple[Learning, Tensors]:
    """Train units of `steps` local steps in turn, each applied whole to the version.

    Returns:
        What was learnt, and the version after them, in the shapes of the model's specs.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    metadata = draft.metadata
    graph = draft.exported.compiled(draft.exported.training_graph)
    version = load_tensors(draft.exported.initial)
    first_holdout = draft.dataset.shards.holdout[:1]
    before = _metrics(draft, blobs, version, first_holdout)
    losses: list[float] = []
    for number in range(units):
        unit = _unit(UnitKind.TRAIN, number, steps)
        run = UnitRun(graph, metadata, unit, version, None, [draft.shard(blobs, number)])
        losses += [run.step() for _ in range(steps)]
        delta = delta_format(metadata, unit).decode(run.delta())
        version = _applied(version, delta, metadata)
    part = max(1, len(losses) // 4)
    learning = Learning(
        loss_first=statistics.fmean(losses[:part]),
        loss_last=statistics.fmean(losses[-part:]),
        metrics_before=before,
        metrics_after=_metrics(draft, blobs, version, first_holdout),
        not_means=_not_means(draft, blobs, version, first_holdout),
        units=units,
        steps=len(losses),
    )
    return learning, version


def probe_step(draft: Draft, blobs: BlobFolder) -> float:
    """Return about how long a local step takes in this process."""
    steps = min(_PROBE_STEPS, draft.metadata.training.local_steps)
    graph = draft.exported.compiled(draft.exported.training_graph)
    version, shard = load_tensors(draft.exported.initial), draft.shard(blobs, 0)
    run = UnitRun(graph, draft.metadata, _unit(UnitKind.TRAIN, 0, steps), version, None, [shard])
    durations = []
    for _ in range(steps):
        start = time.perf_counter()
        run.step()
        durations.append(time.perf_counter() - start)
    return min(durations)


def train_centrally(draft: Draft, blobs: BlobFolder, steps: int, seed: int = 0) -> dict[str, float]:
    """Return the holdout's metrics after `steps` steps on all data in this process.

    Model, version 0, batch, inner optimizer and learning-rate schedule are the project's; there
    is no outer step, no codec and no restart of the optimizer. All shards together must fit into
    memory.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    shards = [load_tensors(blobs.get(shard.digest)) for shard in draft.dataset.shards.train]
    training = msgspec.structs.replace(
        draft.metadata.training, versions=1, local_steps=steps, unit_warmup_steps=0
    )
    metadata = msgspec.structs.replace(draft.metadata, training=training)
    version = load_tensors(draft.exported.initial)
    shard_range = ShardRange(first=0, count=len(shards))
    unit = msgspec.structs.replace(_unit(UnitKind.TRAIN, 0, steps), shards=shard_range, seed=seed)
    graph = draft.exported.compiled(draft.exported.training_graph)
    run = UnitRun(graph, metadata, unit, version, None, shards)
    while run.steps_done < run.steps_total:
        run.step()
    trained = _applied(version, run.exact_delta(), metadata)
    return _metrics(draft, blobs, trained, draft.dataset.shards.holdout)


def _applied(version: Tensors, delta: Tensors, metadata: ProjectMetadata) -> Tensors:
    """Return version - delta; all have the shapes of the model's specs."""
    change = {name: -array for name, array in delta.items()}
    return apply_difference(version, change, metadata.model)


def _metrics(
    draft: Draft, blobs: BlobFolder, version: Tensors, holdout: Sequence[Shard]
) -> dict[str, float]:
    """Return the metrics on holdout shards, empty without any.

    `version` has the shapes of the model's specs.
    """
    if not holdout:
        return {}
    graph = draft.exported.compiled(draft.exported.evaluation_graph)
    shards = [load_tensors(blobs.get(shard.digest)) for shard in holdout]
    return evaluate(graph, draft.metadata, _unit(UnitKind.EVALUATE, 0, 0), version, shards)[0]


def _not_means(
    draft: Draft, blobs: BlobFolder, version: Tensors, holdout: Sequence[Shard]
) -> tuple[str, ...]:
    """Return the metrics whose value for some examples is not the mean of those for their parts.

    An AUC, a perplexity or a mean over tokens that are padded to one length are such; what draws
    random numbers is not judged. `version` has the shapes of the model's specs.
    """
    graph = draft.exported.compiled(draft.exported.evaluation_graph)
    shards = [load_tensors(blobs.get(shard.digest)) for shard in holdout]
    batch = next(UnitData(draft.metadata.data, shards).evaluation_batches(_JUDGED), {})
    count = len(next(iter(batch.values()))) if batch else 0
    if count < _PARTS or drawing_nodes(graph.graph):
        return ()
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in version.items()}

    def values(rows: slice) -> dict[str, torch.Tensor]:
        inputs = {name: torch.from_numpy(array[rows]) for name, array in batch.items()}
        with torch.no_grad():
            return graph.run(tensors, dict(tensors), inputs, NodeDraws(0, 0))

    parts = [slice(0, count // 3), slice(count // 3, count)]
    whole, split = values(slice(0, count)), [values(part) for part in parts]
    sizes = [part.stop - part.start for part in parts]
    found = []
    for name in (output.name for output in graph.graph.outputs if output.kind == "mean"):
        mean = sum(float(one[name]) * n for one, n in zip(split, sizes, strict=True)) / count
        if not math.isclose(float(whole[name]), mean, rel_tol=_MEAN_TOLERANCE, abs_tol=1e-5):
            found.append(name)
    return tuple(found)


def _unit(kind: UnitKind, number: int, steps: int) -> Unit:
    return Unit(
        kind=kind,
        epoch=0,
        version=number,
        shards=ShardRange(first=number, count=1),
        seed=number,
        local_steps=steps,
    )
