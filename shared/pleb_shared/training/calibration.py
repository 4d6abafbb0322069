"""The calibration unit: it names a host's determinism class and measures its speed."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.project import ProjectMetadata, calibration_unit
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_shared.tensors.layout import Tensors
    from pleb_shared.training.graph import CompiledGraph

__all__ = ["CalibrationOutcome", "calibrate"]


@dataclass(frozen=True)
class CalibrationOutcome:
    """The result of a calibration; the delta's `digest` names the determinism class."""

    delta: bytes
    digest: str
    seconds_per_step: float
    """Median over the steps, without the first, which also warms the caches."""
    loss_first: float
    loss_last: float


def calibrate(
    graph: CompiledGraph,
    metadata: ProjectMetadata,
    version: Tensors,
    shard: Tensors,
    clock: Callable[[], float],
) -> CalibrationOutcome:
    """Return the outcome of the project's calibration unit from version 0 on its one shard.

    `version` holds the model's tensors by name, in the shapes of `metadata.model`; `shard` holds
    [examples, *shape] for each input, or one flat array of windows. `clock` returns seconds, such
    as time.perf_counter.

    Raises:
        TrainingError, EncodingError, GraphError: as `UnitRun`.
    """
    run = UnitRun(graph, metadata, calibration_unit(metadata), version, None, [shard])
    durations = []
    while run.steps_done < run.steps_total:
        start = clock()
        run.step()
        durations.append(clock() - start)
    delta = run.delta()
    return CalibrationOutcome(
        delta=delta,
        digest=digest_of(delta),
        seconds_per_step=median(durations[1:] or durations),
        loss_first=run.loss_first,
        loss_last=run.loss_last,
    )
