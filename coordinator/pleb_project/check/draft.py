"""The draft of a project: data and model in blobs, and metadata that lacks only signatures."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from pleb_project.check.researcher_code import load_code
from pleb_project.export import Exported, export_model
from pleb_project.readers.read import read_dataset
from pleb_shared.errors import InputError
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import (
    AdamW,
    Calibration,
    Codec,
    DataSpec,
    Delegation,
    Muon,
    Optimizer,
    OuterStep,
    ProjectMetadata,
    ResourceLimits,
    Round,
    SgdMomentum,
    Target,
    Training,
    Verification,
)
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.training.data import UnitData
from pleb_shared.training.dry_run import peak_bytes

if TYPE_CHECKING:
    from pleb_project.definition.fields import ProjectDefinition, TrainingFields
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.readers.shards import Dataset

__all__ = ["Draft", "make_draft"]

_NOBODY: Final = "0" * 64
_RATES: Final = {"muon": 0.02, "adamw": 0.003, "sgd": 0.05}
_PROVISIONAL_TOLERANCE: Final = 0.01
"""Stands in the draft until the tolerance is measured."""
_MEMORY_AT_LEAST: Final = 256 * 2**20
_CALIBRATION_STEPS: Final = 3


@dataclass(frozen=True)
class Draft:
    """A project before it is signed.

    `metadata` has placeholders for keys, numbers and times, and a provisional tolerance
    where the project file gives none.
    """

    definition: ProjectDefinition
    dataset: Dataset
    exported: Exported
    metadata: ProjectMetadata
    predicted_memory_bytes: int
    """Bound on what a unit takes beyond an idle worker."""

    def shard(self, blobs: BlobFolder, number: int) -> Tensors:
        """Return training shard `number` (modulo their count)."""
        shards = self.dataset.shards.train
        return load_tensors(blobs.get(shards[number % len(shards)].digest))


def make_draft(definition: ProjectDefinition, blobs: BlobFolder) -> Draft:
    """Read the data, export the model, put both into `blobs` and return the draft.

    Raises:
        InputError, GraphError: data or model cannot be used; the message says what to change.
    """
    dataset = read_dataset(definition.data, definition.folder, blobs)
    code = load_code(definition.model, definition.folder)
    batch = _example_batch(definition, dataset, blobs)
    exported = export_model(
        code.model,
        code.loss,
        code.evaluate,
        batch,
        matrices=_matrices(definition.training, code.model),
    )
    _check_target(definition, exported)
    optimizer = optimizer_of(definition.training, exported.matrices)
    graph = parse_graph(exported.training_graph)
    memory = peak_bytes(
        graph, exported.model, dataset.spec, definition.training.batch, optimizer
    ) + _shard_bytes(definition, dataset)
    blobs.put(exported.initial)
    metadata = _metadata(definition, dataset.spec, exported, optimizer, memory, blobs)
    return Draft(definition, dataset, exported, metadata, memory)


def optimizer_of(fields: TrainingFields, matrices: list[str]) -> Optimizer:
    """Return the inner optimizer: its own defaults where the project file says nothing."""
    names: dict[str, tuple[type[Optimizer], tuple[str, ...]]] = {
        "muon": (
            Muon,
            (
                "momentum",
                "newton_schulz_steps",
                "weight_decay",
                "beta1",
                "beta2",
                "adam_learning_rate_ratio",
                "adam_weight_decay",
                "start_momentum",
            ),
        ),
        "adamw": (AdamW, ("beta1", "beta2", "epsilon", "weight_decay")),
        "sgd": (SgdMomentum, ("momentum", "nesterov", "weight_decay")),
    }
    kind, options = names[fields.optimizer]
    given: dict[str, Any] = {
        name: getattr(fields, name) for name in options if getattr(fields, name) is not None
    }
    if kind is Muon:
        given["matrices"] = matrices
    return kind(**given)


def _metadata(
    definition: ProjectDefinition,
    data: DataSpec,
    exported: Exported,
    optimizer: Optimizer,
    memory: int,
    blobs: BlobFolder,
) -> ProjectMetadata:
    project, target = definition.project, definition.target
    return ProjectMetadata(
        protocol=1,
        project=project.name,
        number=1,
        epoch=0,
        issued_at=0,
        root_key=_NOBODY,
        delegation=Delegation(online_key=_NOBODY, expires_at=0),
        title=project.title or project.name,
        description=project.description,
        data_licence=project.data_licence,
        contact=project.contact,
        model=exported.model,
        training_graph=blobs.put(exported.training_graph),
        evaluation_graph=blobs.put(exported.evaluation_graph),
        data=data,
        training=_training(definition.training, optimizer),
        outer=OuterStep(
            learning_rate=definition.outer.learning_rate, momentum=definition.outer.momentum
        ),
        codec=Codec(
            up=definition.codec.up,  # type: ignore[arg-type]  # one of the rule's choices
            down=definition.codec.down,  # type: ignore[arg-type]
            block=definition.codec.block,
        ),
        round=Round(
            units=definition.round.units,
            quorum=definition.quorum,
            grace_seconds=definition.round.grace_seconds,
        ),
        verification=_verification(definition),
        calibration=Calibration(
            steps=min(_CALIBRATION_STEPS, definition.training.local_steps),
            seed=definition.data.seed,
        ),
        limits=ResourceLimits(
            memory_bytes=_memory_limit(definition, memory),
            lease_seconds=definition.limits.lease_seconds,
        ),
        target=target
        and Target(
            metric=target.metric,
            value=target.value,
            direction=target.direction,  # type: ignore[arg-type]  # one of the rule's choices
        ),
    )


def _training(fields: TrainingFields, optimizer: Optimizer) -> Training:
    return Training(
        optimizer=optimizer,
        learning_rate=fields.learning_rate or _RATES[fields.optimizer],
        batch_examples=fields.batch,
        local_steps=fields.local_steps,
        versions=fields.versions,
        warmup_steps=fields.warmup_steps,
        final_fraction=fields.final_fraction,
        unit_warmup_steps=fields.unit_warmup_steps,
        clip_norm=fields.clip_norm,
        shards_per_unit=fields.shards_per_unit,
        warm_start_versions=fields.warm_start_versions,
    )


def _verification(definition: ProjectDefinition) -> Verification:
    fields = definition.verification
    tolerance = fields.tolerance or _PROVISIONAL_TOLERANCE
    return Verification(
        tolerance=tolerance,
        tolerance_ceiling=fields.tolerance_ceiling or max(tolerance, _PROVISIONAL_TOLERANCE),
        new_host_units=fields.new_host_units,
        audit_rate=fields.audit_rate,
        replica_wait_seconds=fields.replica_wait_seconds,
        norm_ratio=fields.norm_ratio,
        ban_after=fields.ban_after,
    )


def _memory_limit(definition: ProjectDefinition, predicted: int) -> int:
    given = definition.limits.memory_mb
    if given is None:
        return max(_MEMORY_AT_LEAST, 2 * predicted)
    if given * 2**20 < predicted:
        raise InputError(
            f"memory_mb = {given} in [limits] is less than the {-(-predicted >> 20)} MiB that a "
            "unit is predicted to take: raise it, or make batch smaller."
        )
    return given * 2**20


def _shard_bytes(definition: ProjectDefinition, dataset: Dataset) -> int:
    largest = max(shard.size for shard in dataset.shards.train)
    return largest * definition.training.shards_per_unit


def _example_batch(
    definition: ProjectDefinition, dataset: Dataset, blobs: BlobFolder
) -> dict[str, torch.Tensor]:
    """Return the first batch that a unit would train on."""
    shard = load_tensors(blobs.get(dataset.shards.train[0].digest))
    arrays = UnitData(dataset.spec, [shard]).training_batch(0, 0, definition.training.batch)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _matrices(fields: TrainingFields, model: torch.nn.Module) -> list[str] | None:
    """Return the parameters that the project file's patterns name, or None: choose."""
    if fields.optimizer != "muon" or not fields.matrices:
        return None
    names = [name for name, _ in model.named_parameters()]
    for pattern in fields.matrices:
        if not fnmatch.filter(names, pattern):
            raise InputError(
                f"matrices in [training] names {pattern!r}, but no parameter is called so; "
                f"there are {', '.join(names[:12])}."
            )
    return [n for n in names if any(fnmatch.fnmatchcase(n, p) for p in fields.matrices)]


def _check_target(definition: ProjectDefinition, exported: Exported) -> None:
    target = definition.target
    if len(exported.metrics) > LIMITS.metrics:
        raise InputError(f"evaluate() returns more than {LIMITS.metrics} metrics: leave some out.")
    if target and target.metric not in exported.metrics:
        raise InputError(
            f"[target] wants the metric {target.metric!r}, but evaluate() returns "
            f"{', '.join(map(repr, exported.metrics))}."
        )
