"""Own data: how a host reads a folder of its user's, and what a project with such units needs.

With `data.where = "host"` a training unit reads no shards: a member's PC reads a folder that its
user chose, as the researcher's own files were read, and only the unit's delta leaves it. Nobody
else has the data, so nobody can compute such a unit again. What bounds it instead is said here, and
refused where it cannot hold.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, get_args

import msgspec

from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "LEAST_QUORUM",
    "OWN_READERS",
    "UNBOUNDED",
    "OwnColumn",
    "OwnData",
    "OwnRange",
    "OwnReader",
    "OwnSetting",
    "OwnTable",
    "Unbounded",
    "own_shard_examples",
    "refused_for",
    "unbounded_by",
]

LEAST_QUORUM: Final = 3
"""With fewer members in a round no rule can tell which of them is out of line."""

OwnReader = Literal["csv", "images", "jsonl", "npy", "npz"]
OWN_READERS: Final[tuple[str, ...]] = get_args(OwnReader)

ColumnName = Annotated[str, msgspec.Meta(max_length=256)]
Cell = Annotated[str, msgspec.Meta(max_length=256)]


class OwnRange(Struct, frozen=True):
    """The whole numbers that an input may have, such as the numbers of its classes."""

    name: Annotated[str, msgspec.Meta(max_length=LIMITS.name_characters)]
    least: int
    most: int


class OwnColumn(Struct, frozen=True):
    """A column of a table: numbers with mean and spread, or the texts that are its categories."""

    name: ColumnName
    mean: float = 0.0
    spread: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    categories: Annotated[list[Cell], msgspec.Meta(max_length=1000)] = []
    """In the order of their numbers; empty: the column has numbers."""


class OwnTable(Struct, frozen=True):
    """How rows of a CSV file, or objects with a target, become inputs."""

    inputs: Annotated[list[OwnColumn], msgspec.Meta(max_length=4096)]
    target: OwnColumn
    header: bool = True
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    missing: Annotated[list[Cell], msgspec.Meta(max_length=64)] = []


class OwnData(Struct, frozen=True):
    """How a host reads its user's folder; the forms of the inputs are the project's."""

    reader: OwnReader
    ranges: Annotated[list[OwnRange], msgspec.Meta(max_length=LIMITS.inputs)] = []
    table: OwnTable | None = None
    classes: Annotated[list[Cell], msgspec.Meta(max_length=65_536)] = []
    """`images`: the subfolders, in the order of their numbers."""
    image_size: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    channels: Literal[1, 3] = 3


class Unbounded(StrEnum):
    """What a project with own data cannot have."""

    ACCESS = "access"
    QUORUM = "quorum"
    COMBINATION = "combination"
    WARM_START = "warm_start"
    CHUNKS = "chunks"
    FAMILY = "family"
    PRIVACY = "privacy"
    WINDOWS = "windows"


UNBOUNDED: Final = {
    Unbounded.ACCESS: (
        "only an invited account is one member, whose share can be bounded: set access = 'invited' "
        "in [project]."
    ),
    Unbounded.QUORUM: (
        f"with fewer than {LEAST_QUORUM} members in a version, no rule can tell which of them is "
        f"out of line: set quorum to {LEAST_QUORUM} or more in [round]."
    ),
    Unbounded.COMBINATION: (
        "nobody can check what a member sends, and in a mean one may pull twice as far as others: "
        "set combination = 'centred_clipping', 'trimmed_mean' or 'median' in [outer]."
    ),
    Unbounded.WARM_START: (
        "a trusted host has no data of its own to start with: set warm_start_versions = 0 in "
        "[training]."
    ),
    Unbounded.CHUNKS: (
        "where members train parts of the model, too few of them train each part to be compared: "
        "remove chunks from [limits]."
    ),
    Unbounded.FAMILY: (
        "the members of a family are published together, and a private project alone: remove "
        "[ensemble] or [sweep]."
    ),
    Unbounded.PRIVACY: (
        "[privacy] bounds what one shard gives away of an exact mean, and here are neither shards "
        "nor a mean: remove [privacy]."
    ),
    Unbounded.WINDOWS: (
        "a host reads examples, and 'text' and 'tokens' are one long list: choose another source "
        "in [data]."
    ),
}
"""What to do about each, in half a sentence."""


class OwnSetting(NamedTuple):
    """What a project says that decides whether a member's part can be bounded."""

    is_invited: bool
    quorum: int
    combination: str
    warm_start_versions: int
    chunks: int
    in_family: bool
    has_privacy: bool
    kind: str = "rows"


def unbounded_by(setting: OwnSetting) -> Iterator[Unbounded]:
    """Yield what in the setting leaves a member's part unbounded."""
    faults = {
        Unbounded.ACCESS: not setting.is_invited,
        Unbounded.FAMILY: setting.in_family,
        Unbounded.QUORUM: setting.quorum < LEAST_QUORUM,
        Unbounded.PRIVACY: setting.has_privacy,
        Unbounded.COMBINATION: setting.combination == "mean",
        Unbounded.WARM_START: setting.warm_start_versions > 0,
        Unbounded.CHUNKS: setting.chunks > 0,
        Unbounded.WINDOWS: setting.kind != "rows",
    }
    yield from (reason for reason, applies in faults.items() if applies)


def refused_for(reason: Unbounded) -> str:
    """Return the sentence that refuses own data for this reason."""
    return f"data on the hosts cannot be used here: {UNBOUNDED[reason]}"


def own_shard_examples(example_bytes: int, batch_examples: int) -> int:
    """Return how many examples a local shard has; a unit reads one.

    As many as fit into `LIMITS.own_shard_bytes`, and a batch at least.
    """
    return max(batch_examples, LIMITS.own_shard_bytes // max(1, example_bytes))
