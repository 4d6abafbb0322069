"""The sections of `project.toml`: each key is declared once, as a field of a struct.

Where a section is part of the signed metadata, its struct is the metadata's own (`outer` is
`OuterStep`, `round` is `Round`, ...), so that bounds, defaults and descriptions cannot disagree.
What only the file has is declared here. `definition.keys` reads the declarations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pleb_shared.protocol.ids import ProjectName
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import (
    Access,
    AdamW,
    Codec,
    EvaluationSpec,
    LeaseSeconds,
    Mirrors,
    Muon,
    OuterStep,
    Privacy,
    Round,
    SgdMomentum,
    Target,
    Text,
    Training,
    Uploads,
    Verification,
    about,
)

__all__ = [
    "OPTIMIZERS",
    "OPTIONAL",
    "SECTIONS",
    "DataSection",
    "EnsembleSection",
    "LimitsSection",
    "ModelSection",
    "ProjectDefinition",
    "ProjectSection",
    "ShowcaseSection",
    "SweepSection",
    "Trial",
]

_MISSING: Final = ("", "?", "NA")
Seed = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class ProjectSection(msgspec.Struct, frozen=True):
    """What people read about the project."""

    name: Annotated[
        ProjectName,
        about("up to 40 of a-z, 0-9 and hyphens inside, such as `my-project`"),
    ]
    title: Annotated[Text, about("the name for people", default_text="the name")] = ""
    description: Annotated[Text, about("what it is for, in a few sentences")] = ""
    data_licence: Annotated[
        Text, about("the licence of the data: volunteers can read the shards")
    ] = ""
    contact: Annotated[
        Text,
        Text,
        about("who runs it and where volunteers can reach you: a name, an e-mail address, a page"),
    ] = ""
    mirrors: Mirrors = []
    uploads: Uploads = ""
    access: Annotated[
        Access,
        about(
            "`invited`: a private project, which only members, to whom the operator gives invites, "
            "and the operator can read; its files are encrypted wherever they lie. It stays so"
        ),
    ] = "public"
    restore: Annotated[
        bool,
        about(
            "whether the coordinator, once it was restored from a backup, may go on from an "
            "earlier version without you"
        ),
    ] = True


class DataSection(msgspec.Struct, frozen=True):
    """Where examples come from. Paths are relative to the project file."""

    source: Annotated[str, about("one of the data sources below, such as `csv` or `parquet`")]
    where: Annotated[
        Literal["coordinator", "host"],
        about(
            "`host`: units are trained on folders of the members' own, which never leave their "
            "PCs; `files` are a few examples of what is in them, and the holdout, see below"
        ),
    ] = "coordinator"
    files: Annotated[
        tuple[str, ...],
        about("a path or a list of paths, with `*` for any characters; or a folder of such files"),
    ] = ()
    holdout_files: Annotated[
        tuple[str, ...], about("data kept for evaluation, if it is in files of its own")
    ] = ()
    holdout: Annotated[
        float, about("share kept for evaluation where `holdout_files` is empty", gt=0, le=0.9)
    ] = 0.1
    split_by: Annotated[
        str,
        about(
            "a column, such as the speaker, whose groups are never divided between training and "
            "holdout; `images`, `audio`, `webdataset`: a regular expression in the file's path, "
            "such as `'([^/]+)_take'`, whose part in brackets is the group"
        ),
    ] = ""
    holdout_groups: Annotated[
        tuple[str, ...],
        about(
            "`split_by`: the groups that are the holdout",
            default_text="about `holdout` of all examples, chosen by `seed`",
        ),
    ] = ()
    stratify_by: Annotated[
        str, about("a column of which the holdout gets the same share of each value")
    ] = ""
    shard_by: Annotated[
        str, about("a column, as `split_by`: every shard is of one group (not IID)")
    ] = ""
    seed: Annotated[Seed, about("seed of the shuffle and of the split")] = 0
    shard_examples: Annotated[
        int,
        about(
            "examples in a shard (`text`: bytes; `tokens`: tokens)",
            ge=0,
            default_text="0: about 16 to 4096 shards, of 4 MiB if that is not too few",
        ),
    ] = 0
    window: Annotated[
        int, about("`text`, `tokens`: bytes or tokens that the model sees at once", ge=1, le=65_536)
    ] = 64
    vocabulary: Annotated[
        int, about("`tokens`: how many different tokens there are", ge=2, le=2**31 - 1)
    ] = 65_536
    dtype: Annotated[
        Literal["uint8", "uint16", "uint32", "int32", "int64"],
        about("`tokens`: of the numbers in `.bin` files"),
    ] = "uint16"
    max_length: Annotated[
        int,
        about(
            "sequences are padded or cut to this length; 0: they all have the same",
            ge=0,
            le=1_000_000,
        ),
    ] = 0
    pad: Annotated[
        dict[str, float],
        about(
            "sequences to pad and with what, such as `{ labels = -100 }`",
            default_text="all lists and texts, with 0 (`python`: none)",
        ),
    ] = {}
    image_size: Annotated[
        int,
        about(
            "images: height and width, to which they are cropped and resized; 0: they all have "
            "the same",
            ge=0,
            le=4096,
        ),
    ] = 0
    channels: Annotated[Literal[1, 3], about("images: 3 for colours, 1 for grey")] = 3
    sample_rate: Annotated[
        int, about("sounds: their samples per second; 0: what the first one has", ge=0, le=768_000)
    ] = 0
    target: Annotated[
        str,
        about(
            "the column to predict; `parquet`, `jsonl`, `huggingface`: makes a table as `csv` does",
            default_text="`csv`: the last column, others: every column is an input by its name",
        ),
    ] = ""
    header: Annotated[bool, about("`csv`: whether the first row names the columns")] = True
    delimiter: Annotated[
        str,
        about(
            "`csv`: the one character that separates cells, such as `,` or `\\t`",
            min_length=1,
            max_length=1,
        ),
    ] = ","
    missing: Annotated[tuple[str, ...], about("tables: cells that mean 'not known'")] = _MISSING
    drop: Annotated[tuple[str, ...], about("columns to leave out")] = ()


class ModelSection(msgspec.Struct, frozen=True):
    """The Python file with `model()`, `loss(model, batch)` and `evaluate(model, batch)`."""

    file: Annotated[str, about("the file, relative to the project file")] = "model.py"
    arguments: Annotated[dict[str, Any], about("keyword arguments for `model()`, as a table")] = {}
    seed: Annotated[Seed, about("seed of torch for the initial weights")] = 0
    initial: Annotated[
        str,
        about(
            "weights to start from: a `.safetensors` file, or `PROJECT@VERSION` of a published "
            "project (a number, `best` or `newest`; `EPOCH/` in front of it for an earlier epoch)",
            default_text="those that `model()` makes",
        ),
    ] = ""


class LimitsSection(msgspec.Struct, frozen=True):
    """What a unit may use on a volunteer's PC."""

    memory_mb: Annotated[
        int,
        about("main memory in MiB", ge=64, le=2**24, default_text="twice what `check` predicts"),
    ] = 0
    """0: not given."""
    chunks: Annotated[
        tuple[str, ...],
        about(
            "parts of the model for PCs in whose memory all of it does not fit, such as "
            "`['layers:1/2', 'layers:1/4']`, see below",
            max_length=LIMITS.chunks,
        ),
    ] = ()
    lease_seconds: LeaseSeconds = 3600
    target_seconds: Annotated[
        float, about("how long a unit should take on this PC; `check` advises by it", gt=0)
    ] = 300


class ShowcaseSection(msgspec.Struct, frozen=True):
    """What the model says or sees now, at the top of the project's page: examples, or a prompt."""

    examples: Annotated[
        int,
        about(
            "how many examples of the holdout the page shows, with what the model makes of them",
            ge=1,
            le=LIMITS.showcase_examples,
            default_text="8, without a `prompt`",
        ),
    ] = 0
    """0: not given."""
    indices: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=2**32)], ...],
        about(
            "which ones instead of the first, counted from 0 in the holdout's first shard",
            max_length=LIMITS.showcase_examples,
        ),
    ] = ()
    classes: Annotated[
        tuple[str, ...],
        about(
            'the names of the classes, such as `["cat", "dog"]`',
            default_text="their numbers",
            max_length=LIMITS.showcase_classes,
        ),
    ] = ()
    prompt: Annotated[str, about("`text`: what the model continues")] = ""
    tokens: Annotated[
        int, about("`prompt`: bytes that it says", ge=1, le=LIMITS.showcase_tokens)
    ] = 120
    temperature: Annotated[
        float,
        about(
            "`prompt`: how freely it chooses, always with the same draws; 0: always the likeliest "
            "byte",
            ge=0,
            le=10,
        ),
    ] = 0.7


class EnsembleSection(msgspec.Struct, frozen=True):
    """Independent members of one project, each with its own initial weights and order of data."""

    members: Annotated[
        int, about("how many; 1: there is no ensemble", ge=1, le=LIMITS.family_members)
    ]
    shards: Annotated[
        float,
        about(
            "share of the training shards that each member reads, each from another place on",
            gt=0,
            le=1,
        ),
    ] = 1.0
    average: Annotated[
        Literal["outputs", "probabilities"],
        about(
            "what `evaluate` averages over the members: what the model returns, or the "
            "probabilities that its scores stand for"
        ),
    ] = "outputs"


class SweepSection(msgspec.Struct, frozen=True):
    """Trials of the same project with other settings; the best ones go on."""

    grid: Annotated[
        dict[str, list[Any]],
        about(
            'settings and their values, such as `{ "training.learning_rate" = [0.01, 0.02] }`; '
            "every combination is a trial"
        ),
    ]
    rungs: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=LIMITS.versions)], ...],
        about(
            "versions after which trials are compared on the holdout, and the others stop",
            max_length=LIMITS.family_rungs,
        ),
    ] = ()
    keep: Annotated[
        float, about("share of the trials that go on at each of them", gt=0, le=0.9)
    ] = 0.5


class Trial(msgspec.Struct, frozen=True):
    """One combination of a sweep's settings."""

    settings: dict[str, str]
    """Their values as the project file would have them."""
    definition: ProjectDefinition


class ProjectDefinition(msgspec.Struct, frozen=True):
    """A project file, read and checked.

    What the file leaves to be worked out from other keys is filled in. Where it leaves
    `verification` to be measured, the values are provisional and `measured` names them.
    """

    project: ProjectSection
    data: DataSection
    model: ModelSection
    training: Training
    outer: OuterStep
    codec: Codec
    round: Round
    verification: Verification
    limits: LimitsSection
    evaluation: EvaluationSpec
    target: Target | None
    showcase: ShowcaseSection | None
    ensemble: EnsembleSection | None
    sweep: SweepSection | None
    privacy: Privacy | None
    measured: frozenset[str]
    folder: Path
    """Where the paths of the file start."""
    trials: tuple[Trial, ...] = ()
    """Of the sweep, in the order of its combinations."""


OPTIONAL: Final = frozenset({"target", "showcase", "ensemble", "sweep", "privacy"})
"""Sections without which there is none of what they describe."""

OPTIMIZERS: Final[dict[str, type[Muon | AdamW | SgdMomentum]]] = {
    "muon": Muon,
    "adamw": AdamW,
    "sgd": SgdMomentum,
}
"""Their options are keys of [training], beside those of `Training`."""

SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "project": ProjectSection,
    "data": DataSection,
    "model": ModelSection,
    "training": Training,
    "outer": OuterStep,
    "codec": Codec,
    "round": Round,
    "verification": Verification,
    "limits": LimitsSection,
    "evaluation": EvaluationSpec,
    "target": Target,
    "showcase": ShowcaseSection,
    "ensemble": EnsembleSection,
    "sweep": SweepSection,
    "privacy": Privacy,
}
"""In the order of the documentation."""
