"""Project metadata: what the researcher's root key signs, and agents pin."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import msgspec

from pleb_shared.protocol.ids import Digest, KeyHex, ProjectName
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Blob, Count, ShardRange, Struct, Unit, UnitKind

__all__ = [
    "AdamW",
    "Calibration",
    "Codec",
    "DataSpec",
    "Delegation",
    "InputSpec",
    "ModelSpec",
    "Muon",
    "Optimizer",
    "OuterStep",
    "ProjectMetadata",
    "ResourceLimits",
    "Round",
    "SgdMomentum",
    "Shard",
    "ShardList",
    "Target",
    "TensorSpec",
    "Training",
    "Verification",
    "calibration_unit",
    "elements",
    "epoch_changes",
]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LIMITS.name_characters)]
TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Text = Annotated[str, msgspec.Meta(max_length=LIMITS.text_characters)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Dimension = Annotated[int, msgspec.Meta(ge=0, le=LIMITS.tensor_elements)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=30 * 24 * 3600)]
Dtype = Literal["float32", "float64", "int64", "int32", "uint8", "bool"]
CodecName = Literal["fp32", "int8", "int4", "2bit"]


class TensorSpec(Struct, frozen=True):
    """A named tensor. Parameters are float32; buffers may be whole numbers too."""

    name: TensorName
    dtype: Dtype
    shape: Annotated[list[Dimension], msgspec.Meta(max_length=LIMITS.tensor_dimensions)]


def elements(spec: TensorSpec) -> int:
    """Return how many numbers the tensor holds."""
    return math.prod(spec.shape)


class ModelSpec(Struct, frozen=True):
    """The global model: tensors in the order in which every layout writes them."""

    parameters: Annotated[list[TensorSpec], msgspec.Meta(max_length=LIMITS.tensors)]
    buffers: Annotated[list[TensorSpec], msgspec.Meta(max_length=LIMITS.tensors)]
    initial: Blob
    """Version 0 as safetensors."""
    initial_digest: Digest
    """Its version digest."""


class InputSpec(Struct, frozen=True):
    """One input of the graphs: an array in every shard; `shape` is that of one example."""

    name: Name
    dtype: Dtype
    shape: Annotated[list[Dimension], msgspec.Meta(max_length=LIMITS.tensor_dimensions)]


class DataSpec(Struct, kw_only=True, frozen=True):
    """How examples lie in shards (safetensors blobs).

    `rows`: every input is an array whose first dimension counts examples.
    `windows`: the shard has one 1-D array named by the first input; example i of inputs
    (x, y) is x = a[i : i + window], y = a[i + 1 : i + 1 + window].
    """

    kind: Literal["rows", "windows"]
    window: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    inputs: Annotated[list[InputSpec], msgspec.Meta(min_length=1, max_length=LIMITS.inputs)]
    shards: Blob
    """A `ShardList` as JSON."""


class Shard(Struct, frozen=True):
    """A slice of the data and how many examples it has."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.shard_bytes)]
    examples: Annotated[int, msgspec.Meta(ge=1, le=2**32)]


class ShardList(Struct, frozen=True):
    """The file that `DataSpec.shards` names."""

    train: Annotated[list[Shard], msgspec.Meta(min_length=1, max_length=LIMITS.shards)]
    holdout: Annotated[list[Shard], msgspec.Meta(max_length=LIMITS.shards)]


class Muon(Struct, tag="muon", tag_field="name", frozen=True):
    """Muon for matrices of the blocks, AdamW for embeddings, head, vectors (Jordan 2024)."""

    momentum: Fraction = 0.9
    newton_schulz_steps: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    weight_decay: NotNegative = 0.1
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    adam_weight_decay: NotNegative = 0.0
    adam_learning_rate_ratio: Positive = 1.0
    """Learning rate of the AdamW part over that of the Muon part."""
    start_momentum: NotNegative = 0.3
    """u0: share of the last version difference that starts the momentum; 0 turns it off."""
    matrices: list[TensorName] = []
    """Names of the parameters that Muon steps; the rest is AdamW's."""


class AdamW(Struct, tag="adamw", tag_field="name", frozen=True):
    """AdamW (Loshchilov and Hutter 2019) with bias correction."""

    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 0.0


class SgdMomentum(Struct, tag="sgd", tag_field="name", frozen=True):
    """SGD with momentum, optionally Nesterov."""

    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 0.0


Optimizer = Muon | AdamW | SgdMomentum


class Training(Struct, frozen=True):
    """The local steps. Global step s of S = versions * local_steps; h counts inside a unit.

    eta_s = learning_rate * min(1, (s + 1) / warmup_steps)
            * (final_fraction + (1 - final_fraction) * (1 + cos(pi s / S)) / 2)
    eta_h = eta_s * min(1, (h + 1) / unit_warmup_steps)
    """

    optimizer: Optimizer
    learning_rate: Positive
    batch_examples: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.batch_examples)]
    local_steps: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.local_steps)]
    versions: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
    """The project is finished at this version."""
    warmup_steps: Count = 0
    final_fraction: Fraction = 0.03
    unit_warmup_steps: Count = 6
    clip_norm: NotNegative = 1.0
    """Ceiling of the global gradient norm in AdamW and SGD; 0 turns it off."""
    shards_per_unit: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.shards)] = 1
    warm_start_versions: Count = 0
    """The first versions, each from one unit of a trusted host, with a plain outer step."""


class OuterStep(Struct, frozen=True):
    """The outer optimizer: M = momentum * M + g; theta -= learning_rate * (g + momentum * M)."""

    learning_rate: Positive = 0.7
    momentum: Fraction = 0.7


class Codec(Struct, frozen=True):
    """How deltas (`up`) and published differences (`down`) are encoded."""

    up: CodecName = "int4"
    down: CodecName = "int4"
    block: Annotated[int, msgspec.Meta(ge=16, le=65_536)] = 256
    """Numbers that share one float16 scale."""


class Round(Struct, frozen=True):
    """A version is made from `quorum` verified of `units`; the rest gets `grace_seconds` more."""

    units: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 64
    quorum: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 48
    grace_seconds: Seconds = 30


class Verification(Struct, frozen=True):
    """What makes a result count."""

    tolerance: Positive
    """Relative L2 distance of decoded deltas, per tensor, up to which results agree."""
    tolerance_ceiling: Positive
    """What the fleet's calibration may raise the tolerance to."""
    new_host_units: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 10
    audit_rate: Fraction = 0.05
    replica_wait_seconds: Seconds = 60
    """After this long without a second volunteer a trusted host takes the replica."""
    norm_ratio: Annotated[float, msgspec.Meta(gt=1)] = 10.0
    """A delta's norm may differ from the round's median by this factor."""
    ban_after: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 3
    """Refused results that were proven by two other accounts or a trusted host."""


class Calibration(Struct, frozen=True):
    """A few steps from version 0 on one shard: every host's first unit."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    shard: Count = 0


class ResourceLimits(Struct, frozen=True):
    """What a unit may use on a volunteer's PC."""

    memory_bytes: Annotated[int, msgspec.Meta(ge=2**20, le=2**44)]
    lease_seconds: Annotated[float, msgspec.Meta(gt=0, le=LIMITS.lease_seconds)] = 3600


class Target(Struct, frozen=True):
    """The project's aim on the holdout: `metric` at least (or at most) `value`."""

    metric: Name
    value: float
    direction: Literal["at_least", "at_most"] = "at_least"


class Delegation(Struct, frozen=True):
    """The root lets the coordinator's online key choose version, seed, shards, chunk, steps."""

    online_key: KeyHex
    expires_at: Count


class ProjectMetadata(Struct, frozen=True):
    """The payload that the root key signs. Times are seconds since 1970 (UTC)."""

    protocol: int
    project: ProjectName
    number: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    """Grows with each metadata of the project; an agent never goes back (TUF: version)."""
    epoch: Count
    """A run of versions from version 0. A higher epoch starts again from `model.initial`; only
    with it may change what `epoch_changes` looks at."""
    issued_at: Count
    root_key: KeyHex
    delegation: Delegation
    title: Text
    description: Text
    data_licence: Text
    contact: Text
    model: ModelSpec
    training_graph: Blob
    evaluation_graph: Blob
    data: DataSpec
    training: Training
    outer: OuterStep
    codec: Codec
    round: Round
    verification: Verification
    calibration: Calibration
    limits: ResourceLimits
    target: Target | None = None


EPOCH_FIELDS: Final = (
    "model",
    "training_graph",
    "evaluation_graph",
    "data",
    "training",
    "codec",
    "calibration",
)
"""What results depend on. Results of one epoch are compared with one another, measured by one
evaluation and recomputed from its version 0, so these fields stay as long as the epoch does."""


def epoch_changes(before: ProjectMetadata, after: ProjectMetadata) -> list[str]:
    """Return the names of the fields that differ although only a new epoch may change them."""
    return [name for name in EPOCH_FIELDS if getattr(before, name) != getattr(after, name)]


def calibration_unit(metadata: ProjectMetadata) -> Unit:
    """Return every host's first unit: a few steps from version 0 on one shard, sent as fp32.

    Its digest names the host's determinism class, its duration the host's speed.
    """
    return Unit(
        kind=UnitKind.CALIBRATE,
        epoch=metadata.epoch,
        version=0,
        shards=ShardRange(first=metadata.calibration.shard, count=1),
        seed=metadata.calibration.seed,
        local_steps=metadata.calibration.steps,
    )
