"""Project metadata: what the researcher's root key signs, and agents pin."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec.structs import replace

from pleb_shared.protocol.chunk import FULL, Chunk
from pleb_shared.protocol.ids import BaseUrl, Digest, KeyHex, ProjectName, check_base_url
from pleb_shared.protocol.keys import check_public_key
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.own_data import OwnData, OwnSetting, refused_for, unbounded_by
from pleb_shared.protocol.privacy import SENTENCES, Setting, unearned_by
from pleb_shared.protocol.showcase import Showcase
from pleb_shared.protocol.unit import (
    Blob,
    Count,
    ShardRange,
    Struct,
    Unit,
    UnitKind,
    check_root,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ITEM_BYTES",
    "OWN_SHARDS",
    "Access",
    "Activity",
    "AdamW",
    "BaseSpec",
    "Calibration",
    "Codec",
    "CombinationRule",
    "CoordinatorAddress",
    "DataSpec",
    "Delegation",
    "EvaluationSpec",
    "Family",
    "FamilyKind",
    "HoldoutMetric",
    "InputSpec",
    "Mirrors",
    "ModelSpec",
    "Muon",
    "Numerics",
    "Optimizer",
    "OuterStep",
    "Privacy",
    "ProjectMetadata",
    "ResourceLimits",
    "Round",
    "Rung",
    "ScheduleName",
    "SgdMomentum",
    "Shard",
    "ShardList",
    "Target",
    "TensorSpec",
    "Training",
    "Uploads",
    "Verification",
    "about",
    "calibration_unit",
    "elements",
    "epoch_changes",
    "example_bytes",
    "showcase_blobs",
    "tensor_bytes",
]


def about(
    description: str,
    *,
    key: str | None = None,
    default: object = None,
    default_text: str | None = None,
    **bounds: Any,
) -> msgspec.Meta:
    """Return what a field declares in addition to its type, for `project.toml` too.

    Args:
        description: what the field is, in half a sentence.
        key: its key in the project file, where that is not the field's name.
        default: what the file need not say although the metadata must.
        default_text: what the documentation shows where the default is worked out or measured.
        bounds: as in `msgspec.Meta`, such as `ge=1`.
    """
    extra = {"key": key, "default": default, "default_text": default_text}
    given = {name: value for name, value in extra.items() if value is not None}
    return msgspec.Meta(description=description, extra=given or None, **bounds)


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LIMITS.name_characters)]
TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Text = Annotated[str, msgspec.Meta(max_length=LIMITS.text_characters)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Dimension = Annotated[int, msgspec.Meta(ge=0, le=LIMITS.tensor_elements)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=30 * 24 * 3600)]
Dtype = Literal["float32", "float64", "int64", "int32", "uint8", "bool"]
"""What data and changing buffers may be."""
BaseDtype = Dtype | Literal["float16", "bfloat16", "int16", "int8"]
"""What the base may be, too: storage that is only read."""
ArrayDtype = BaseDtype | Literal["uint16"]
"""What a shard may hold, too: tokens, which a batch has as int64."""
CodecName = Literal["fp32", "int8", "int4", "2bit"]
Access = Literal["public", "invited"]
Activity = Literal["active", "finishing", "paused", "archived"]
"""`finishing`: the open round is finished, and no other one begins."""
Numerics = Literal["native", "strict"]
"""How processors compute: each with its own best instructions, or all in one way."""
ScheduleName = Literal["constant", "cosine", "linear", "step", "wsd"]
CombinationRule = Literal["mean", "median", "trimmed_mean", "centred_clipping"]
FamilyKind = Literal["ensemble", "sweep"]
HoldoutMetric = Literal[
    "accuracy",
    "auc",
    "average_precision",
    "confusion",
    "f1",
    "mae",
    "per_class",
    "perplexity",
    "precision",
    "r2",
    "recall",
    "rmse",
]
"""Metrics of predictions for the whole holdout (`training.metrics`), and the loss's perplexity."""


ITEM_BYTES: Final[dict[str, int]] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""The bytes of one number."""


class TensorSpec(Struct, frozen=True):
    """A named tensor."""

    name: TensorName
    dtype: BaseDtype
    shape: Annotated[list[Dimension], msgspec.Meta(max_length=LIMITS.tensor_dimensions)]


def elements(spec: TensorSpec) -> int:
    """Return how many numbers the tensor holds."""
    return math.prod(spec.shape)


def tensor_bytes(specs: Iterable[TensorSpec]) -> int:
    """Return how many bytes the numbers of all these tensors have."""
    return sum(elements(spec) * ITEM_BYTES[spec.dtype] for spec in specs)


TensorSpecs = Annotated[list[TensorSpec], msgspec.Meta(max_length=LIMITS.tensors)]


class BaseSpec(Struct, frozen=True):
    """What no step changes: parameters without gradient, and buffers that no graph writes."""

    tensors: Annotated[list[TensorSpec], msgspec.Meta(min_length=1, max_length=2 * LIMITS.tensors)]
    blob: Blob
    """All of them as safetensors; the same for every version of an epoch."""


class ModelSpec(Struct, frozen=True):
    """The global model: what training changes, and its base.

    A version consists of `parameters`, the ones that get a gradient, and `buffers`, those that a
    graph writes; so do deltas, differences and snapshots, in this order. All other tensors are the
    `base`, which hosts fetch once, and nothing that a host sends can change.
    """

    parameters: TensorSpecs
    buffers: TensorSpecs
    initial: Blob
    """Version 0 as safetensors."""
    initial_digest: Digest
    """Its version digest."""
    base: BaseSpec | None = None

    @property
    def base_tensors(self) -> list[TensorSpec]:
        """The tensors of the base, in its order."""
        return self.base.tensors if self.base else []

    def __post_init__(self) -> None:
        """Refuse dtypes that no delta can carry, and a name that is there twice."""
        for spec in self.parameters:
            if spec.dtype != "float32":
                raise ValueError(f"parameter {spec.name!r} is {spec.dtype}, not float32")
        for spec in self.buffers:
            if spec.dtype not in get_args(Dtype):
                raise ValueError(f"no step can change buffer {spec.name!r}, which is {spec.dtype}")
        specs = [*self.parameters, *self.buffers, *self.base_tensors]
        if len({spec.name for spec in specs}) != len(specs):
            raise ValueError("two tensors have one name")


class InputSpec(Struct, frozen=True):
    """One input of the graphs: an array in every shard; `shape` is that of one example."""

    name: Name
    dtype: Dtype
    shape: Annotated[list[Dimension], msgspec.Meta(max_length=LIMITS.tensor_dimensions)]


def example_bytes(inputs: Iterable[InputSpec]) -> int:
    """Return how many bytes the numbers of one example have."""
    return sum(math.prod(spec.shape) * ITEM_BYTES[spec.dtype] for spec in inputs)


class DataSpec(Struct, kw_only=True, frozen=True):
    """How examples are stored in shards (safetensors blobs).

    `rows`: every input is an array whose first dimension counts examples.
    `windows`: the shard has one 1-D array named by the first input; example i of inputs
    (x, y) is x = a[i : i + window], y = a[i + 1 : i + 1 + window].
    """

    kind: Literal["rows", "windows"]
    window: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    inputs: Annotated[list[InputSpec], msgspec.Meta(min_length=1, max_length=LIMITS.inputs)]
    shards: Blob
    """A `ShardList` as JSON."""
    own: OwnData | None = None
    """How hosts read the data of their users, which training units are computed on then; the
    training shards are examples, for the calibration. None: units read the training shards."""


class Shard(Struct, frozen=True):
    """A slice of the data and how many examples it has."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.shard_bytes)]
    examples: Annotated[int, msgspec.Meta(ge=1, le=2**32)]
    root: Digest | None = None
    """As a blob's."""

    def __post_init__(self) -> None:
        """Refuse what a blob refuses."""
        check_root(self.size, self.root)

    @property
    def blob(self) -> Blob:
        """Its bytes."""
        return Blob(digest=self.digest, size=self.size, root=self.root)

    @classmethod
    def of(cls, blob: Blob, examples: int) -> Shard:
        """Return the shard with these bytes."""
        return cls(digest=blob.digest, size=blob.size, examples=examples, root=blob.root)


class ShardList(Struct, frozen=True):
    """The file that `DataSpec.shards` names."""

    train: Annotated[list[Shard], msgspec.Meta(min_length=1, max_length=LIMITS.shards)]
    holdout: Annotated[list[Shard], msgspec.Meta(max_length=LIMITS.shards)]


Momentum = Annotated[Fraction, about("momentum")]
WeightDecay = Annotated[NotNegative, about("decoupled weight decay (`muon`: of its matrices)")]
Beta1 = Annotated[Fraction, about("decay of the first moment")]
Beta2 = Annotated[Fraction, about("decay of the second moment")]


class Muon(Struct, tag="muon", tag_field="name", frozen=True):
    """Muon for matrices of the blocks, AdamW for embeddings, head, vectors (Jordan 2024)."""

    momentum: Momentum = 0.9
    newton_schulz_steps: Annotated[int, about("Newton-Schulz iterations", ge=1, le=10)] = 5
    weight_decay: WeightDecay = 0.1
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.99
    adam_weight_decay: Annotated[
        NotNegative, about("weight decay of embeddings and head; vectors have none")
    ] = 0.0
    adam_learning_rate_ratio: Annotated[Positive, about("AdamW's learning rate over Muon's")] = 1.0
    start_momentum: Annotated[
        NotNegative, about("share of the last version difference that starts the momentum; 0: off")
    ] = 0.3
    matrices: Annotated[
        list[TensorName],
        about(
            "parameters that Muon steps, with `*` for any characters",
            default_text="all weights of two or more dimensions but embeddings and the last layer",
        ),
    ] = []
    """In signed metadata all names in full; AdamW steps the other parameters."""


class AdamW(Struct, tag="adamw", tag_field="name", frozen=True):
    """AdamW (Loshchilov and Hutter 2019) with bias correction."""

    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.99
    epsilon: Annotated[Positive, about("term added to the denominator")] = 1e-8
    weight_decay: WeightDecay = 0.0


class SgdMomentum(Struct, tag="sgd", tag_field="name", frozen=True):
    """SGD with momentum, optionally Nesterov."""

    momentum: Momentum = 0.9
    nesterov: Annotated[bool, about("Nesterov's form of momentum")] = False
    weight_decay: WeightDecay = 0.0


Optimizer = Muon | AdamW | SgdMomentum


class Training(Struct, frozen=True):
    """The local steps of a unit.

    Global step s of S = versions * local_steps; h counts inside a unit:

    eta_s = learning_rate * min(1, (s + 1) / warmup_steps) * shape(s / S)
    eta_h = eta_s * min(1, (h + 1) / unit_warmup_steps)

    `training.optimizers.shape` has the shapes. All but `versions` stays as long as an epoch does.
    """

    optimizer: Annotated[Optimizer, about("the inner optimizer", default="muon")]
    learning_rate: Annotated[
        Positive, about("peak learning rate", default_text="muon 0.02, adamw 0.003, sgd 0.05")
    ]
    batch_examples: Annotated[
        int,
        about("examples in a local step", ge=1, le=LIMITS.batch_examples, key="batch", default=32),
    ]
    local_steps: Annotated[
        int, about("steps in a unit (H)", ge=1, le=LIMITS.local_steps, default=25)
    ]
    versions: Annotated[
        int,
        about(
            "the project is finished at this version; more of them continue a finished one",
            ge=1,
            le=LIMITS.versions,
            default=40,
        ),
    ]
    warmup_steps: Annotated[Count, about("global steps until the peak learning rate", default=20)]
    schedule: Annotated[
        ScheduleName, about("the learning rate's shape after the warm-up, see below")
    ] = "cosine"
    final_fraction: Annotated[Fraction, about("last learning rate over its peak")] = 0.03
    cooldown_fraction: Annotated[
        Fraction, about("`wsd`: share of all steps, at the end, in which the rate falls")
    ] = 0.2
    levels: Annotated[
        int, about("`step`: how many rates there are from the peak to the last", ge=2, le=1000)
    ] = 3
    unit_warmup_steps: Annotated[Count, about("warm-up steps inside every unit")] = 6
    clip_norm: Annotated[
        NotNegative, about("ceiling of the global gradient norm, not for muon; 0: off")
    ] = 1.0
    shards_per_unit: Annotated[
        int,
        about(
            "shards that a unit reads, mixed in every batch",
            ge=1,
            le=LIMITS.shards,
            default_text="1; more where `check` finds that shards are not alike",
        ),
    ] = 1
    warm_start_versions: Annotated[
        Count,
        about(
            "first versions that one trusted host each trains alone, with a large batch, where one "
            "is around and takes no more than 10 minutes for it",
            default_text="`muon`: a tenth of `versions`, others: 0",
        ),
    ] = 0
    warm_start_batches: Annotated[
        int,
        about(
            "batches whose mean gradient makes a step of the warm start",
            ge=2,
            le=LIMITS.batches_per_step,
            default_text="`units` of [round], at least 2",
        ),
    ] = 16


class OuterStep(Struct, frozen=True):
    """How the coordinator makes a version: deltas become g, then the outer optimizer steps.

    M = momentum * M + g; theta -= learning_rate * (g + momentum * M)
    """

    learning_rate: Annotated[Positive, about("learning rate of the outer step")] = 0.7
    momentum: Annotated[Fraction, about("Nesterov momentum of the outer step")] = 0.7
    combination: Annotated[
        CombinationRule,
        about(
            "how a round's deltas become g; all but `mean` withstand some wrong ones",
            default_text='`"mean"`; with data of the hosts\' own `"centred_clipping"`',
        ),
    ] = "mean"
    norm_band: Annotated[
        float,
        about("`mean`: a delta this many times longer than the median one is cut to that", ge=1),
    ] = 2.0
    trim_fraction: Annotated[
        float, about("`trimmed_mean`: share that is left out at each end", ge=0, le=0.49)
    ] = 0.2
    clipping_radius: Annotated[
        Positive,
        about(
            "`centred_clipping`: farthest pull of a delta, over its median distance to the centre"
        ),
    ] = 1.0
    clipping_iterations: Annotated[
        int, about("`centred_clipping`: how often the centre moves", ge=1, le=20)
    ] = 3


class Privacy(Struct, frozen=True):
    """What a version hides of the data: deltas are cut and noise is added (`protocol.privacy`)."""

    clip_norm: Annotated[
        float,
        about(
            "longest that a unit's delta counts (L2 norm of all its numbers): longer ones are cut",
            gt=0,
            le=1e9,
        ),
    ]
    noise_multiplier: Annotated[
        float,
        about(
            "standard deviation of the noise that is added to a round's sum, over `clip_norm`",
            ge=1e-3,
            le=1e6,
        ),
    ]
    delta: Annotated[
        float,
        about("the chance that epsilon does not hold; below one over the shards", gt=0, le=0.1),
    ] = 1e-6
    owner_shards: Annotated[
        int,
        about(
            "shards that hold one owner's data: what epsilon protects is all of those",
            ge=1,
            le=LIMITS.shards,
        ),
    ] = 1


class Codec(Struct, frozen=True):
    """How deltas and differences between versions are encoded."""

    up: Annotated[CodecName, about("encoding of the deltas that hosts send")] = "int4"
    down: Annotated[CodecName, about("encoding of the differences that hosts get")] = "int4"
    block: Annotated[int, about("numbers that share one float16 scale", ge=16, le=65_536)] = 256


class Round(Struct, frozen=True):
    """When a version is made."""

    units: Annotated[int, about("units that are planned for a version", ge=1, le=100_000)] = 16
    quorum: Annotated[
        int,
        about(
            "verified units that a version needs",
            ge=1,
            le=100_000,
            default_text="three quarters of `units`",
        ),
    ] = 12
    grace_seconds: Annotated[Seconds, about("how long to wait for the rest after that")] = 30
    shortest_unit: Annotated[
        float,
        about(
            "units are shortened to end with their round, down to this part of `local_steps`; "
            "1: all units are alike",
            ge=0.25,
            le=1,
        ),
    ] = 0.25


class Verification(Struct, frozen=True):
    """What makes a result count. `pleb-project check` measures the tolerance."""

    tolerance: Annotated[
        Positive,
        about(
            "relative L2 distance of decoded deltas, per tensor, up to which results agree",
            default_text="measured",
        ),
    ]
    tolerance_ceiling: Annotated[
        Positive,
        about("what the fleet's calibration may raise the tolerance to", default_text="measured"),
    ]
    comparable: Annotated[
        bool,
        about(
            "false: results of different PCs cannot be compared, and no host is found wrong",
            default_text="measured",
        ),
    ] = True
    numerics: Annotated[
        Numerics,
        about(
            "`strict`: the same instructions, one thread and the same algorithms on every PC, so "
            "that results are equal to the bit; a little slower, and needs x86-64 with AVX2",
            default_text='"native"; `"strict"` where `check` finds that results need it',
        ),
    ] = "native"
    new_host_units: Annotated[
        int,
        about(
            "confirmed units in a row that make a host proven; until then others compute them too",
            ge=0,
            le=10_000,
        ),
    ] = 10
    audit_rate: Annotated[
        Fraction, about("least share of a proven host's units that another host computes too")
    ] = 0.05
    audit_rate_most: Annotated[
        Fraction, about("what `audit_rate` rises to when proven hosts are convicted")
    ] = 0.25
    audit_record: Annotated[
        NotNegative,
        about("of a proven host's results after n accepted ones, this over n are compared"),
    ] = 10.0
    audit_record_most: Annotated[
        NotNegative,
        about("what `audit_record` rises to: fewer wrong results for more repeated units"),
    ] = 40.0
    hold_rate: Annotated[
        Fraction, about("from this rate of checks on, a result waits for its check")
    ] = 0.3
    exam_hosts: Annotated[
        int, about("new hosts that share a unit with one that is proven", ge=1, le=10_000)
    ] = 1000
    exam_share: Annotated[
        Fraction, about("share of a round's units that new hosts may share, once hosts are proven")
    ] = 0.25
    spot_check_rate: Annotated[
        Fraction, about("share of all units that trusted hosts compute to check volunteers")
    ] = 0.05
    pace: Annotated[
        Fraction,
        about("share of its usual time that passes before a host gets its next unit"),
    ] = 0.5
    undelivered_most: Annotated[
        int, about("of a host's last 20 units: with more undelivered it is new again", ge=0, le=20)
    ] = 4
    max_holdout_regression: Annotated[
        float,
        about(
            "share of what training has won on the holdout that may be lost again before the last "
            "good version is restored; 0: never restored",
            ge=0,
            le=1000,
        ),
    ] = 0.5
    max_wrong_share: Annotated[
        Fraction,
        about(
            "share of a recent version's results that may be found wrong later, or lean like a "
            "proven lie, before the version before it is restored; 1: never restored"
        ),
    ] = 0.15
    ban_after: Annotated[
        int,
        about(
            "results proven wrong after which a host is banned",
            ge=1,
            le=10_000,
        ),
    ] = 3
    forgiven_after: Annotated[
        int, about("accepted units for which one wrong result is forgiven", ge=1, le=1_000_000)
    ] = 200


class Calibration(Struct, frozen=True):
    """A few steps from version 0 on one shard: every host's first unit."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    shard: Count = 0
    chunk: Name = FULL
    """The one that takes the least memory, so that every host can compute it."""


LeaseSeconds = Annotated[
    float,
    about(
        "time after which a unit is given to another host, at the latest",
        gt=0,
        le=LIMITS.lease_seconds,
    ),
]


class ResourceLimits(Struct, frozen=True):
    """What a unit may use on a volunteer's PC."""

    memory_bytes: Annotated[int, msgspec.Meta(ge=2**20, le=2**44)]
    lease_seconds: LeaseSeconds = 3600
    full_bytes: Count = 0
    """What a unit of the whole model is predicted to take; 0: not known."""


class Target(Struct, frozen=True):
    """The project's aim on the holdout."""

    metric: Annotated[Name, about("a name that `evaluate` returns, or `loss`")]
    value: Annotated[float, about("what it must reach")]
    direction: Annotated[Literal["at_least", "at_most"], about("from which side")] = "at_least"
    stop_at_target: Annotated[
        bool, about("whether the first version that reaches it is the last one")
    ] = False
    patience: Annotated[
        Count, about("evaluated versions in a row without a better one that end training; 0: off")
    ] = 0


class EvaluationSpec(Struct, frozen=True):
    """How versions are measured on the holdout."""

    batch_examples: Annotated[
        int,
        about(
            "examples that are evaluated at once",
            key="batch",
            default_text="0: as many as in training",
            ge=0,
            le=65_536,
        ),
    ] = 0
    metrics: Annotated[
        list[HoldoutMetric],
        about(
            "metrics of the whole holdout, from the `predictions` and `targets` that `evaluate` "
            "returns (`perplexity`: from its loss)",
            max_length=LIMITS.metrics,
        ),
    ] = []


class Rung(Struct, frozen=True):
    """Where trials of a sweep are compared: after so many versions so many of them go on."""

    version: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.versions)]
    keep: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.family_members)]


class Family(Struct, frozen=True):
    """Projects that are published together, and that hosts join together.

    Every member is a project of its own, with its own rounds and versions, and nothing passes
    between them. All of them are signed by the root key that made the family, and say the same but
    for their settings.
    """

    name: ProjectName
    kind: FamilyKind
    members: Annotated[
        list[ProjectName], msgspec.Meta(min_length=2, max_length=LIMITS.family_members)
    ]
    """The names of all the projects, in order."""
    settings: Annotated[dict[Name, Name], msgspec.Meta(max_length=LIMITS.family_settings)] = {}
    """`sweep`: what the project file says otherwise for this member, for people."""
    rungs: Annotated[list[Rung], msgspec.Meta(max_length=LIMITS.family_rungs)] = []
    """`sweep`: successive halving; the coordinator stops the members that do not go on."""

    def __post_init__(self) -> None:
        """Refuse a name that is there twice, and rungs that are not in order."""
        if len({self.name, *self.members}) != len(self.members) + 1:
            raise ValueError("two projects of a family have one name, or one has the family's")
        for before, after in pairwise(self.rungs):
            if before.version >= after.version or before.keep < after.keep:
                raise ValueError("rungs of a sweep are not in order")

    def number_of(self, project: str) -> int:
        """Return the place of a member, counted from 1."""
        return self.members.index(project) + 1


Mirrors = Annotated[
    list[BaseUrl],
    about(
        "web servers with the project's files, as `pleb-coordinator mirror sync` writes them, "
        "such as `https://example.org/my-project`: volunteers get most bytes from there",
        max_length=LIMITS.mirrors,
    ),
]


Uploads = Annotated[
    BaseUrl,
    about(
        "the address of the coordinator's bucket, which its operator tells you, such as "
        "`https://bucket.s3.eu-central-1.amazonaws.com/pleb`: large results go straight there; "
        "empty: to the coordinator"
    ),
]


class CoordinatorAddress(Struct, frozen=True):
    """Where a project is served."""

    url: BaseUrl
    certificate: Digest | None = None
    """SHA-256 of a self-signed certificate's DER form."""

    def __post_init__(self) -> None:
        """Refuse what is no address."""
        check_base_url(self.url, "a coordinator's")


class Delegation(Struct, frozen=True):
    """The root lets the coordinator's online key choose version, seed, shards, chunk, steps."""

    online_key: KeyHex
    expires_at: Count
    may_restore: bool = False
    """Whether a coordinator that was restored from a backup may go on from an earlier version."""

    def __post_init__(self) -> None:
        """Refuse a key that proves nothing."""
        check_public_key(self.online_key)


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
    evaluation: EvaluationSpec = EvaluationSpec()
    target: Target | None = None
    chunks: Annotated[list[Chunk], msgspec.Meta(max_length=LIMITS.chunks)] = []
    """What hosts train for which the whole model is too large, the best one first."""
    roots: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=LIMITS.root_change_characters)]],
        msgspec.Meta(max_length=LIMITS.root_changes),
    ] = []
    """Every change of the root key, oldest first: envelopes of a `RootChange`."""
    revoked: Annotated[list[Digest], msgspec.Meta(max_length=LIMITS.revoked_keys)] = []
    """Fingerprints of root and online keys whose statements nobody may accept any more."""
    activity: Activity = "active"
    """Whether the researcher wants work to be issued; the coordinator follows a change of it."""
    activity_note: Text = ""
    """Why not, for people."""
    family: Family | None = None
    """What the project is a member of; None: it is published alone."""
    mirrors: Mirrors = []
    """Web servers that have the project's blobs, too, in no order."""
    uploads: Uploads = ""
    """The bucket into which hosts may put large results (`protocol.direct`); empty: none."""
    coordinator: CoordinatorAddress | None = None
    """Where the project has moved to: agents go there. None: it is where they found it."""
    privacy: Privacy | None = None
    """None: versions are exact means, and hide nothing."""
    access: Access = "public"
    """`invited`: only members and the operator may read anything of the project."""
    sealed_with: Count = 0
    """Of a private project: the number of the key that all blobs of this metadata are sealed with
    (`protocol.sealing`)."""
    showcase: Showcase | msgspec.UnsetType = msgspec.UNSET
    """What hosts show of each version that they evaluate; unset, and left out: nothing."""

    def __post_init__(self) -> None:
        """Refuse a key that proves nothing, chunks without a name, and privacy that is not real."""
        check_public_key(self.root_key)
        for url in self.mirrors:
            check_base_url(url)
        if self.uploads:
            check_base_url(self.uploads, "a bucket's")
        names = [FULL, *(chunk.name for chunk in self.chunks)]
        if len(set(names)) != len(names):
            raise ValueError("two chunks have one name")
        if self.calibration.chunk not in names:
            raise ValueError(f"there is no chunk {self.calibration.chunk!r} to calibrate with")
        if self.family is not None and self.project not in self.family.members:
            raise ValueError(f"{self.project!r} is no member of its family {self.family.name!r}")
        private = self.access == "invited"
        if private != (self.sealed_with > 0):
            raise ValueError("a private project's files are sealed, and no other's are")
        if private and self.family is not None:
            raise ValueError("a private project is published alone, not in a family")
        setting = Setting(
            warm_start_versions=self.training.warm_start_versions,
            chunks=len(self.chunks),
            combination=self.outer.combination,
            buffers=len(self.model.buffers),
            units=self.round.units,
            quorum=self.round.quorum,
            in_family=self.family is not None,
        )
        if self.privacy is not None and (faults := [*unearned_by(setting)]):
            raise ValueError(f"[privacy] cannot hold: {SENTENCES[faults[0]]}")
        if self.data.own is not None and (unbounded := [*unbounded_by(self._own_setting())]):
            raise ValueError(refused_for(unbounded[0]))

    def _own_setting(self) -> OwnSetting:
        """Return what decides about own data. A draft is sealed when it is signed."""
        return OwnSetting(
            is_invited=self.access == "invited" or not self.issued_at,
            quorum=min(self.round.quorum, self.round.units),
            combination=self.outer.combination,
            warm_start_versions=self.training.warm_start_versions,
            chunks=len(self.chunks),
            in_family=self.family is not None,
            has_privacy=self.privacy is not None,
            kind=self.data.kind,
        )

    def graph_of(self, chunk: str) -> Blob | None:
        """Return the training graph of the chunk of that name, None if there is none."""
        if chunk == FULL:
            return self.training_graph
        return next((one.training_graph for one in self.chunks if one.name == chunk), None)


def showcase_blobs(metadata: ProjectMetadata) -> list[Blob]:
    """Return the blobs of the showcase: its graph and its card; none without one."""
    shown = metadata.showcase
    return [] if shown is msgspec.UNSET else [shown.graph, shown.card]


OWN_SHARDS: Final = ShardRange(first=0, count=1)
"""What a unit on its host's own data says of shards: it reads one, whichever its host chooses."""
EPOCH_FIELDS: Final = (
    "model",
    "training_graph",
    "evaluation_graph",
    "evaluation",
    "data",
    "training",
    "codec",
    "calibration",
    "chunks",
)
"""What results depend on. Results of one epoch are compared with one another, measured by one
evaluation and recomputed from its version 0, so these fields stay as long as the epoch does."""


def epoch_changes(before: ProjectMetadata, after: ProjectMetadata) -> list[str]:
    """Return the names of the fields that differ although only a new epoch may change them.

    The number of versions may always change: a unit says which number its learning rates go by. Of
    `verification` only the numerics may not, since they decide about results' bits.
    """
    as_many = replace(after, training=replace(after.training, versions=before.training.versions))
    changed = [name for name in EPOCH_FIELDS if getattr(before, name) != getattr(as_many, name)]
    same_numerics = before.verification.numerics == after.verification.numerics
    return changed if same_numerics else [*changed, "verification.numerics"]


def calibration_unit(metadata: ProjectMetadata) -> Unit:
    """Return every host's first unit: a few steps from version 0 on one shard, sent as fp32.

    Its digest names the host's determinism class, its duration the host's speed.
    """
    return Unit(
        kind=UnitKind.CALIBRATE,
        epoch=metadata.epoch,
        version=0,
        chunk=metadata.calibration.chunk,
        shards=ShardRange(first=metadata.calibration.shard, count=1),
        seed=metadata.calibration.seed,
        local_steps=metadata.calibration.steps,
    )
