"""What the coordinator's online key may choose in a unit; only the root key chooses the rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pleb_shared.errors import TrustError
from pleb_shared.protocol.codec import delta_bytes
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import ModelSpec, ProjectMetadata, TensorSpec, calibration_unit
from pleb_shared.protocol.unit import Unit, UnitKind, VersionSource

if TYPE_CHECKING:
    from pleb_shared.protocol.manifest import Manifest

__all__ = ["check_unit", "snapshot_ceiling_bytes"]

_ITEM_BYTES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "uint8": 1, "bool": 1}


def snapshot_ceiling_bytes(model: ModelSpec) -> int:
    """Return the largest size of the model's safetensors file: its numbers and their header."""
    tensors = [*model.parameters, *model.buffers]
    header = sum(len(spec.name) * 6 + 256 + 24 * len(spec.shape) for spec in tensors)
    return sum(_raw_bytes(spec) for spec in tensors) + header + 4096


def check_unit(manifest: Manifest, metadata: ProjectMetadata, latest_version: int) -> None:
    """Refuse a unit in which the online key chose what only the root key may choose.

    Raises:
        TrustError: the sentence names the rule of docs/protocol.md 5 that is broken.
    """
    unit, source = manifest.unit, manifest.version
    broken = (
        _identity_fault(unit, source, metadata)
        or _work_fault(unit, metadata)
        or _age_fault(unit, latest_version)
        or _source_fault(source, metadata)
    )
    if broken:
        raise TrustError(f"Assignment {manifest.assignment} was refused: {broken}.")


def _identity_fault(unit: Unit, source: VersionSource, metadata: ProjectMetadata) -> str:
    if unit.epoch != metadata.epoch or source.epoch != metadata.epoch:
        return f"it belongs to epoch {unit.epoch}, the project is at {metadata.epoch}"
    if unit.version != source.number:
        return f"it asks for version {unit.version} and gives version {source.number}"
    if unit.chunk != "full":
        return f"this agent does not know the chunk {unit.chunk!r}; update it"
    return ""


def _work_fault(unit: Unit, metadata: ProjectMetadata) -> str:
    """Too much or other work than the researcher signed for, or none."""
    training = metadata.training
    if unit.kind is UnitKind.TRAIN:
        if not 1 <= unit.local_steps <= training.local_steps:
            return f"{unit.local_steps} steps, where 1 to {training.local_steps} are allowed"
        if unit.shards.count > training.shards_per_unit:
            return f"{unit.shards.count} shards, where {training.shards_per_unit} are allowed"
    if unit.kind is UnitKind.EVALUATE and unit.local_steps > training.local_steps:
        return "it evaluates with training steps"
    if unit.kind is UnitKind.CALIBRATE:
        return "" if unit == calibration_unit(metadata) else "it is not the calibration unit"
    return ""


def _age_fault(unit: Unit, latest_version: int) -> str:
    if unit.kind is UnitKind.CALIBRATE:
        return "" if unit.version == 0 else "calibration starts from version 0"
    if unit.version > latest_version:
        return f"version {unit.version} is newer than the latest, {latest_version}"
    if latest_version - unit.version > LIMITS.version_lag:
        return f"version {unit.version} lies more than {LIMITS.version_lag} behind the latest"
    return ""


def _source_fault(source: VersionSource, metadata: ProjectMetadata) -> str:
    model = metadata.model
    if source.snapshot_number + len(source.differences) != source.number:
        return "its differences do not lead from the snapshot to the version"
    if source.number == 0:
        first = source.snapshot == model.initial and source.digest == model.initial_digest
        return "" if first else "version 0 is not the one that the researcher signed"
    if not source.differences:
        return "a version after 0 comes with at least one difference"
    if source.snapshot.size > snapshot_ceiling_bytes(model):
        return f"a snapshot of {source.snapshot.size} bytes is larger than the model"
    size = delta_bytes(model, metadata.codec.down, metadata.codec.block)
    if any(blob.size != size for blob in source.differences):
        return f"a difference does not have the {size} bytes of this model's"
    return ""


def _raw_bytes(spec: TensorSpec) -> int:
    return _ITEM_BYTES[spec.dtype] * math.prod(spec.shape)
