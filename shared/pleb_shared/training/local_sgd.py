"""A training or calibration unit, step by step: from a version and shards to an encoded delta."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import torch

from pleb_shared.errors import EncodingError, RefusalCode, TrainingError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.project import ProjectMetadata, calibration_unit
from pleb_shared.tensors.chunk_view import chunk_view
from pleb_shared.tensors.format import delta_format
from pleb_shared.tensors.layout import Tensors, check_version, load_tensors, save_tensors
from pleb_shared.tensors.version import subtract_versions
from pleb_shared.training.data import UnitData
from pleb_shared.training.draws import NodeDraws
from pleb_shared.training.dry_run import check_graph
from pleb_shared.training.graph import TORCH_ERRORS, base_tensors, refusal
from pleb_shared.training.optimizers import make_optimizer, unit_learning_rates

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pleb_shared.protocol.unit import Unit
    from pleb_shared.training.graph import CompiledGraph

__all__ = ["CalibrationOutcome", "UnitRun", "calibrate"]

_MODEL: Final = "model/"
_OPTIMIZER: Final = "optimizer/"
_GRADIENT: Final = "gradient/"
_PROGRESS: Final = "progress"
_UNIT: Final = "unit"


class UnitRun:
    """The run of one unit of kind `train` or `calibrate`, of the whole model or of a chunk.

    `version` is the unit's starting point and `previous_difference` the decoded last published
    difference (None at version 0); both hold tensors by name, in the shapes of
    `metadata.model`; `graph` is the chunk's and has the model's base. `shards` are the unit's, in
    order: [examples, *shape] for each input, or one flat array of windows. `state` is an earlier
    `state()` of the same unit: the run then resumes with the same bits. Within a determinism class
    the result is a pure function of the other arguments.

    Raises:
        GraphError: the graph does not belong to this project.
        EncodingError: the version, a shard or the state is invalid.
    """

    def __init__(
        self,
        graph: CompiledGraph,
        metadata: ProjectMetadata,
        unit: Unit,
        version: Tensors,
        previous_difference: Tensors | None,
        shards: list[Tensors],
        state: bytes | None = None,
    ) -> None:
        training = metadata.training
        view = chunk_view(metadata, unit.chunk)
        check_graph(graph.graph, view, metadata.data, training.batch_examples)
        check_version(version, metadata.model)
        if view.frozen:
            graph = graph.with_base(base_tensors((s.name, version[s.name]) for s in view.frozen))
        self._graph, self._metadata, self._unit, self._view = graph, metadata, unit, view
        self._version = view.taken(version, unit.version)
        self._data = UnitData(metadata.data, shards)
        updates = -(-unit.local_steps // unit.batches_per_step)
        self._rates = unit_learning_rates(
            training, unit.version * training.local_steps, updates, unit.versions
        )
        self._tensors = {name: self._place(array) for name, array in self._version.items()}
        self._trained = {
            spec.name: self._tensors[spec.name].requires_grad_() for spec in view.model.parameters
        }
        difference = view.taken(previous_difference or {}, unit.version)
        self._optimizer = make_optimizer(
            training,
            self._trained,
            {name: self._place(difference[name]) for name in self._trained if name in difference},
            self._rates,
        )
        self._steps_done = 0
        self._losses: list[float] = []
        """Loss of the first and of the last step so far."""
        if state is not None:
            self._load(load_tensors(state))

    @property
    def steps_done(self) -> int:
        """How many local steps are done: batches, of which several may make one update."""
        return self._steps_done

    @property
    def steps_total(self) -> int:
        """How many local steps the unit has."""
        return self._unit.local_steps

    @property
    def loss_first(self) -> float:
        """The loss of the first local step; NaN before it."""
        return self._losses[0] if self._losses else math.nan

    @property
    def loss_last(self) -> float:
        """The loss of the latest local step; NaN before the first."""
        return self._losses[-1] if self._losses else math.nan

    def step(self) -> float:
        """Do one local step and return its loss (before the step).

        Of `batches_per_step` local steps, only the last one changes the parameters, by the mean of
        all their gradients, which are added up in order.

        Raises:
            TrainingError: the unit is finished, an operator refuses its arguments, or the loss is
                not a finite number.
        """
        number = self.steps_done
        if number >= self.steps_total:
            raise TrainingError(f"The unit has only {self.steps_total} steps.")
        arrays = self._data.training_batch(
            self._unit.seed, number, self._metadata.training.batch_examples
        )
        inputs = {name: self._place(array) for name, array in arrays.items()}
        draws = NodeDraws(self._unit.seed, number)
        loss = self._graph.run(self._tensors, self._tensors, inputs, draws)["loss"]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss became {value} in local step {number + 1} of {self.steps_total}: "
                "the project's learning rate may be too high."
            )
        together = self._unit.batches_per_step
        if number % together == 0:
            for parameter in self._trained.values():
                parameter.grad = None
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except TORCH_ERRORS as error:
            raise refusal("The backward pass", error) from error
        self._steps_done += 1
        if self._steps_done % together == 0 or self._steps_done == self.steps_total:
            self._update(number % together + 1, self._rates[number // together])
        self._losses = [*self._losses[:1], value]
        return value

    @torch.no_grad()
    def _update(self, batches: int, rate: float) -> None:
        """Step the optimizer by the mean of the gradients of `batches` batches."""
        if batches > 1:
            for parameter in self._trained.values():
                if parameter.grad is not None:
                    parameter.grad.div_(batches)
        self._optimizer.step(self._trained, rate, self._graph.part_done)

    def state(self) -> bytes:
        """Return what a later run needs to resume with the same bits, as safetensors."""
        tensors = {_MODEL + name: _array(tensor) for name, tensor in self._tensors.items()}
        tensors |= {_OPTIMIZER + n: _array(tensor) for n, tensor in self._optimizer.state().items()}
        if self.steps_done % self._unit.batches_per_step:  # an update is only partly computed
            tensors |= {
                _GRADIENT + name: _array(parameter.grad)
                for name, parameter in self._trained.items()
                if parameter.grad is not None
            }
        tensors[_PROGRESS] = np.array(
            [self.steps_done, self.loss_first, self.loss_last], np.float64
        )
        tensors[_UNIT] = self._identity()
        return save_tensors(tensors)

    def exact_delta(self) -> Tensors:
        """Return the delta before it is encoded: version - local, each tensor in its chunk's shape.

        Raises:
            TrainingError: steps are missing.
        """
        if self.steps_done != self.steps_total:
            raise TrainingError(f"Only {self.steps_done} of {self.steps_total} steps are done.")
        local = {name: _array(tensor) for name, tensor in self._tensors.items()}
        return subtract_versions(self._version, local, self._view.model)

    def delta(self) -> bytes:
        """Return the delta in the unit's format.

        Raises:
            TrainingError: steps are missing.
            EncodingError: `not_finite`: training diverged in its last step.
        """
        return delta_format(self._metadata, self._unit).encode(self.exact_delta())

    def _place(self, array: NDArray[Any]) -> torch.Tensor:
        """Return a copy of `array`, of the same shape, on the run's device."""
        return torch.from_numpy(np.array(array, order="C")).to(self._graph.device)

    def _identity(self) -> NDArray[np.uint8]:
        """Return the digest of the unit and its training settings, uint8 [32].

        It is stored in a saved state, which fits no other unit.
        """
        training = msgspec.structs.replace(self._metadata.training, versions=1)  # the unit has it
        text = msgspec.json.encode([training, self._unit])
        return np.frombuffer(hashlib.sha256(text).digest(), np.uint8)

    def _load(self, state: Tensors) -> None:
        """Restore what `state()` saved: tensors in the shapes of the model and the optimizer."""
        optimizer = self._optimizer.state()
        wanted = {_MODEL + n for n in self._tensors} | {_OPTIMIZER + n for n in optimizer}
        wanted |= {_PROGRESS, _UNIT}
        gradients = {_GRADIENT + name for name in self._trained}
        if not wanted <= state.keys() <= wanted | gradients or not np.array_equal(
            state[_UNIT], self._identity()
        ):
            message = "The saved state belongs to another unit: start this unit from the beginning."
            raise EncodingError(RefusalCode.WRONG_DIGEST, message)
        steps, first, last = state[_PROGRESS].tolist()
        self._steps_done = int(steps)
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(self._place(state[_MODEL + name]))
            self._optimizer.load(
                {name: self._place(state[_OPTIMIZER + name]) for name in optimizer},
                self._steps_done // self._unit.batches_per_step,
            )
        for name, parameter in self._trained.items():
            if _GRADIENT + name in state:
                parameter.grad = self._place(state[_GRADIENT + name])
        self._losses = [first, last] if steps else []


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


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor as an array of the same shape; not copied if it is in the CPU's memory."""
    return np.asarray(tensor.detach().cpu().numpy())
