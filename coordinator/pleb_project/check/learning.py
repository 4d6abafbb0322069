"""A dry run: some units one after another, to see whether the loss falls."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_shared.tensors.format import delta_format
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.tensors.version import apply_difference
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.graph import CompiledGraph
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from pleb_project.check.draft import Draft
    from pleb_project.readers.blobs import BlobFolder

__all__ = ["Learning", "dry_run", "seconds_per_step"]

_UNITS: Final = 3
_STEPS_AT_LEAST: Final = 60
"""Batches differ in their loss: fewer steps would not tell falling from chance."""
_PROBE_STEPS: Final = 3


@dataclass(frozen=True)
class Learning:
    """Mean loss of the first and of the last steps, and metrics before and after."""

    loss_first: float
    loss_last: float
    metrics_before: dict[str, float]
    metrics_after: dict[str, float]

    @property
    def falls(self) -> bool:
        """Whether training lowers its loss."""
        return self.loss_last < self.loss_first


def dry_run(draft: Draft, blobs: BlobFolder, steps: int) -> Learning:
    """Train at least three units of `steps` local steps in turn, each applied whole to the version.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    metadata = draft.metadata
    graph = CompiledGraph(parse_graph(draft.exported.training_graph))
    version = load_tensors(draft.exported.initial)
    before = _metrics(draft, blobs, version)
    losses: list[float] = []
    units = max(_UNITS, math.ceil(_STEPS_AT_LEAST / steps))
    for number in range(units):
        unit = _unit(UnitKind.TRAIN, number, steps)
        shard = draft.shard(blobs, number)
        run = UnitRun(graph, metadata, unit, version, None, [shard])
        losses += [run.step() for _ in range(steps)]
        delta = delta_format(metadata, unit).decode(run.delta())
        version = apply_difference(version, {n: -d for n, d in delta.items()}, metadata.model)
    part = max(_STEPS_AT_LEAST // 4, steps // 4)
    return Learning(
        loss_first=statistics.fmean(losses[:part]),
        loss_last=statistics.fmean(losses[-part:]),
        metrics_before=before,
        metrics_after=_metrics(draft, blobs, version),
    )


def seconds_per_step(draft: Draft, blobs: BlobFolder) -> float:
    """Return about how long a local step takes in this process."""
    steps = min(_PROBE_STEPS, draft.metadata.training.local_steps)
    graph = CompiledGraph(parse_graph(draft.exported.training_graph))
    version, shard = load_tensors(draft.exported.initial), draft.shard(blobs, 0)
    run = UnitRun(graph, draft.metadata, _unit(UnitKind.TRAIN, 0, steps), version, None, [shard])
    durations = []
    for _ in range(steps):
        start = time.perf_counter()
        run.step()
        durations.append(time.perf_counter() - start)
    return min(durations)


def _metrics(draft: Draft, blobs: BlobFolder, version: Tensors) -> dict[str, float]:
    """Return the metrics on the first holdout shard, empty without one.

    `version` has the shapes of the model's specs.
    """
    if not draft.dataset.shards.holdout:
        return {}
    graph = CompiledGraph(parse_graph(draft.exported.evaluation_graph))
    shard = load_tensors(blobs.get(draft.dataset.shards.holdout[0].digest))
    unit = _unit(UnitKind.EVALUATE, 0, 0)
    return evaluate(graph, draft.metadata, unit, version, [shard])[0]


def _unit(kind: UnitKind, number: int, steps: int) -> Unit:
    return Unit(
        kind=kind,
        epoch=0,
        version=number,
        shards=ShardRange(first=number, count=1),
        seed=number,
        local_steps=steps,
    )
