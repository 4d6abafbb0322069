"""The unit: what a host computes. Its result is a pure function of it in a determinism class."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from pleb_shared.protocol.ids import Digest
from pleb_shared.protocol.limits import LIMITS

__all__ = ["Blob", "ShardRange", "Struct", "Unit", "UnitKind", "VersionSource", "check_root"]

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all that travels: immutable; an unknown field is an error."""


class Blob(Struct, frozen=True):
    """A content-addressed file: `digest` is the SHA-256 of its `size` bytes."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=LIMITS.model_bytes)]
    root: Digest | None = None
    """That of the tree over its parts (`protocol.parts`); None: it has only one."""

    def __post_init__(self) -> None:
        """Refuse a large blob whose parts could not be checked, and a root without parts."""
        check_root(self.size, self.root)


def check_root(size: int, root: str | None) -> None:
    """Check that a blob of `size` bytes has a root exactly if it has parts."""
    if (size > LIMITS.blob_part_bytes) != (root is not None):
        raise ValueError(
            f"a blob has a root exactly if it is larger than {LIMITS.blob_part_bytes} bytes"
        )


class UnitKind(StrEnum):
    """What is done with the version: train on shards, evaluate on holdout, or calibrate."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    CALIBRATE = "calibrate"


class ShardRange(Struct, frozen=True):
    """Shards `first` .. `first + count - 1`, modulo the length of the list."""

    first: Count
    count: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.shards)]


class Unit(Struct, kw_only=True, frozen=True):
    """All that the online key may choose; the rest is in the root-signed metadata.

    The first global step of a training unit is `version * training.local_steps`.
    """

    kind: UnitKind
    epoch: Count
    version: Count
    chunk: Annotated[str, msgspec.Meta(max_length=LIMITS.name_characters)] = "full"
    shards: ShardRange
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    local_steps: Annotated[int, msgspec.Meta(ge=0, le=LIMITS.local_steps)]
    versions: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.versions)] | None = None
    """Training: how many versions the project had planned when the unit was, which its learning
    rates depend on. None: `training.versions`."""
    batches_per_step: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.batches_per_step)] = 1
    """Training: the optimizer steps once for so many of the `local_steps` batches, by the mean of
    their gradients. More than 1 in a warm start: a large batch, though the graph's is fixed."""


class VersionSource(Struct, frozen=True):
    """Where the bytes of a version come from.

    The tensors of `snapshot` are version `snapshot_number`; each blob of `differences`, in
    order, leads one version further, the last one to `number`. From version 1 on there is at
    least one difference, since a unit's momentum starts from the last one. `digest` is the
    version digest (`tensors.layout.version_digest`) of the outcome. A version that restores an
    earlier one comes with the files of that one, whose numbers are counted back from `number`.
    """

    epoch: Count
    number: Count
    digest: Digest
    snapshot: Blob
    snapshot_number: Count
    differences: Annotated[list[Blob], msgspec.Meta(max_length=64)]
