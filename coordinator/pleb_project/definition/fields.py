"""The project as its file defines it: frozen values, each field with its rule and default."""

# ruff: noqa: RUF009 - `setting` makes a field, as `dataclasses.field` does

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pleb_project.definition.rules import REQUIRED, setting
from pleb_shared.protocol.limits import LIMITS

__all__ = [
    "CodecFields",
    "DataFields",
    "LimitFields",
    "ModelFields",
    "OuterFields",
    "ProjectDefinition",
    "ProjectFields",
    "RoundFields",
    "TargetFields",
    "TrainingFields",
    "VerificationFields",
]

_CODECS = ("fp32", "int8", "int4", "2bit")
_OWN = "the optimizer's own"


@dataclass(frozen=True)
class ProjectFields:
    """What people read about the project."""

    name: str = setting(REQUIRED, "lower-case letters, digits and hyphens, at most 40")
    title: str = setting("", "the name for people", default_text="the name")
    description: str = setting("", "what it is for, in a few sentences")
    data_licence: str = setting("", "the licence of the data: volunteers can read the shards")
    contact: str = setting("", "where volunteers can reach you")


@dataclass(frozen=True)
class ModelFields:
    """The Python file with `model()`, `loss(model, batch)` and `evaluate(model, batch)`."""

    file: str = setting("model.py", "the file, relative to the project file")
    arguments: dict[str, Any] = setting({}, "keyword arguments for `model()`, as a table")
    seed: int = setting(0, "seed of torch for the initial weights", least=0, most=2**31 - 1)


@dataclass(frozen=True)
class DataFields:
    """Where examples come from. Paths are relative to the project file."""

    source: str = setting(
        REQUIRED, "`sklearn:NAME`, `csv`, `text`, `idx`, `npz` or `python`; see the readers below"
    )
    files: tuple[str, ...] = setting((), "a path or a list of paths; the source says what they are")
    holdout_files: tuple[str, ...] = setting((), "data kept for evaluation, if it lies apart")
    holdout: float = setting(
        0.1, "share kept for evaluation where `holdout_files` is empty", above=0, most=0.9
    )
    seed: int = setting(0, "seed of the shuffle and of the split", least=0, most=2**31 - 1)
    shard_examples: int = setting(
        0,
        "examples in a shard (`text`: bytes)",
        least=0,
        default_text="0: about 16 to 4096 shards of at most 4 MiB",
    )
    window: int = setting(64, "`text`: bytes that the model sees at once", least=1, most=65_536)
    target: str = setting("", "`csv`: the column to predict", default_text="the last column")
    header: bool = setting(True, "`csv`: whether the first row names the columns")
    delimiter: str = setting(",", "`csv`: what separates cells")
    missing: tuple[str, ...] = setting(("", "?", "NA"), "`csv`: cells that mean 'not known'")
    drop: tuple[str, ...] = setting((), "`csv`: columns to leave out")


@dataclass(frozen=True)
class TrainingFields:
    """The local steps of a unit. Options that are not the chosen optimizer's are refused."""

    optimizer: str = setting(
        "muon",
        "the inner optimizer: `muon` (matrices; AdamW for the rest), `adamw` or `sgd`",
        choices=("muon", "adamw", "sgd"),
    )
    learning_rate: float | None = setting(
        None, "its peak", above=0, default_text="muon 0.02, adamw 0.003, sgd 0.05"
    )
    batch: int = setting(32, "examples in a local step", least=1, most=LIMITS.batch_examples)
    local_steps: int = setting(25, "steps in a unit (H)", least=1, most=LIMITS.local_steps)
    versions: int = setting(40, "the project is finished at this version", least=1, most=10**7)
    warmup_steps: int = setting(20, "global steps until the learning rate's peak", least=0)
    final_fraction: float = setting(0.03, "last learning rate over its peak", least=0, most=1)
    unit_warmup_steps: int = setting(6, "steps of warm-up inside every unit", least=0)
    clip_norm: float = setting(1.0, "ceiling of the gradient's norm, not for muon; 0: off", least=0)
    shards_per_unit: int = setting(1, "shards that a unit reads", least=1, most=LIMITS.shards)
    warm_start_versions: int = setting(
        0, "first versions, each made from one unit of a trusted host", least=0
    )
    momentum: float | None = setting(
        None, "`muon`, `sgd`: momentum", least=0, most=1, default_text="0.9"
    )
    nesterov: bool | None = setting(None, "`sgd`: Nesterov's form", default_text="false")
    weight_decay: float | None = setting(
        None, "decoupled weight decay", least=0, default_text="muon 0.1 (its matrices), else 0"
    )
    beta1: float | None = setting(
        None, "`muon`, `adamw`: first moment", least=0, most=1, default_text="0.9"
    )
    beta2: float | None = setting(
        None, "`muon`, `adamw`: second moment", least=0, most=1, default_text="0.99"
    )
    epsilon: float | None = setting(None, "`adamw`: epsilon", above=0, default_text="1e-8")
    newton_schulz_steps: int | None = setting(
        None, "`muon`: Newton-Schulz iterations", least=1, most=10, default_text="5"
    )
    start_momentum: float | None = setting(
        None,
        "`muon`: share of the last version difference that starts the momentum",
        least=0,
        default_text="0.3",
    )
    adam_learning_rate_ratio: float | None = setting(
        None, "`muon`: AdamW's learning rate over Muon's", above=0, default_text="1"
    )
    adam_weight_decay: float | None = setting(
        None, "`muon`: weight decay of AdamW's part", least=0, default_text="0"
    )
    matrices: tuple[str, ...] = setting(
        (),
        "`muon`: parameters that Muon steps, with `*` for any characters",
        default_text="weights of two and more dimensions but embeddings and the last linear layer",
    )


@dataclass(frozen=True)
class OuterFields:
    """The outer optimizer, which the coordinator applies to the mean of the deltas."""

    learning_rate: float = setting(0.7, "of the outer step", above=0)
    momentum: float = setting(0.7, "Nesterov momentum of the outer step", least=0, most=1)


@dataclass(frozen=True)
class CodecFields:
    """How deltas travel."""

    up: str = setting("int4", "encoding of the deltas that hosts send", choices=_CODECS)
    down: str = setting("int4", "encoding of the differences that hosts get", choices=_CODECS)
    block: int = setting(256, "numbers that share one scale", least=16, most=65_536)


@dataclass(frozen=True)
class RoundFields:
    """When a version is made."""

    units: int = setting(16, "units that are planned for a version", least=1, most=100_000)
    quorum: int | None = setting(
        None,
        "verified units that a version needs",
        least=1,
        most=100_000,
        default_text="three quarters of `units`",
    )
    grace_seconds: float = setting(30, "how long the rest is waited for then", least=0)


@dataclass(frozen=True)
class VerificationFields:
    """What makes a result count. `pleb-project check` measures the tolerance."""

    tolerance: float | None = setting(
        None, "relative distance up to which results agree", above=0, default_text="measured"
    )
    tolerance_ceiling: float | None = setting(
        None, "what the fleet may raise it to", above=0, default_text="measured"
    )
    new_host_units: int = setting(
        10, "first units of a host that a second one repeats", least=0, most=10_000
    )
    audit_rate: float = setting(0.05, "share of later units that is repeated", least=0, most=1)
    replica_wait_seconds: float = setting(
        60, "after this without a second volunteer a trusted host repeats a unit", least=0
    )
    norm_ratio: float = setting(
        10, "factor by which a delta's norm may differ from the median", above=1
    )
    ban_after: int = setting(3, "proven refusals until a host is banned", least=1, most=10_000)


@dataclass(frozen=True)
class LimitFields:
    """What a unit may use on a volunteer's PC."""

    memory_mb: int | None = setting(
        None, "main memory in MiB", least=64, default_text="twice what `check` predicts"
    )
    lease_seconds: float = setting(
        3600, "time until a unit is given to another host", above=0, most=LIMITS.lease_seconds
    )
    target_seconds: float = setting(
        300, "how long a unit should take on this PC; `check` advises by it", above=0
    )


@dataclass(frozen=True)
class TargetFields:
    """The project's aim on the holdout."""

    metric: str = setting(REQUIRED, "a name that `evaluate` returns, or `loss`")
    value: float = setting(REQUIRED, "what it must reach")
    direction: str = setting("at_least", "`at_least` or `at_most`", choices=("at_least", "at_most"))


@dataclass(frozen=True)
class ProjectDefinition:
    """A project file, read and checked. `folder` is where its paths start."""

    project: ProjectFields
    data: DataFields
    model: ModelFields = field(default_factory=ModelFields)
    training: TrainingFields = field(default_factory=TrainingFields)
    outer: OuterFields = field(default_factory=OuterFields)
    codec: CodecFields = field(default_factory=CodecFields)
    round: RoundFields = field(default_factory=RoundFields)
    verification: VerificationFields = field(default_factory=VerificationFields)
    limits: LimitFields = field(default_factory=LimitFields)
    target: TargetFields | None = None
    folder: Path = Path()

    @property
    def quorum(self) -> int:
        """Verified units that a version needs."""
        return self.round.quorum or max(1, (3 * self.round.units + 3) // 4)
