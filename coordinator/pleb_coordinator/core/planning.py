"""Which units make a version: how many, on which shards, from which seeds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Facts, NewUnit, Project, UnitRow
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind

if TYPE_CHECKING:
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = [
    "YOUNG_VERSIONS",
    "evaluation_unit",
    "is_warm_start",
    "round_quorum",
    "round_units",
    "unit_seed",
    "unit_statement",
    "young_quorum",
]

YOUNG_VERSIONS: Final = 5
"""Rounds of a fleet without proven hosts that may be small."""


def is_warm_start(metadata: ProjectMetadata, version: int) -> bool:
    """Whether the step that follows `version` is one trusted host's alone."""
    return version < metadata.training.warm_start_versions


def round_units(metadata: ProjectMetadata, facts: Facts, version: int) -> list[NewUnit]:
    """Return the training units that start from `version`; empty when it is the last one.

    Units of all rounds, counted through, take the shards in turn, so after any number of
    rounds no shard was used more than once more often than another.
    """
    training = metadata.training
    if version >= training.versions:
        return []
    count = 1 if is_warm_start(metadata, version) else metadata.round.units
    warm = min(version, training.warm_start_versions)
    first = warm + (version - warm) * metadata.round.units  # the units of all rounds before
    return [
        NewUnit(
            kind=UnitKind.TRAIN,
            position=position,
            seed=unit_seed(metadata.project, metadata.epoch, version, position),
            shard_first=(first + position) * training.shards_per_unit % facts.train_shards,
            shard_count=training.shards_per_unit,
            local_steps=training.local_steps,
            versions=training.versions,
        )
        for position in range(count)
    ]


def round_quorum(metadata: ProjectMetadata, version: int) -> int:
    """Return how many of the round's units must be verified before the next version is made."""
    if is_warm_start(metadata, version):
        return 1
    return min(metadata.round.quorum, metadata.round.units)


def young_quorum(project: Project) -> int | None:
    """Return how many verified units are enough while a fleet is young; None: it is not.

    It is young until a host is proven: up to then trusted hosts compute every unit, also those that
    new hosts train, and a whole round would be their work for long. At first gradients agree so
    much that few of them do (McCandlish et al. 2018, the critical batch size), so the first version
    needs one unit of each account, each following one twice as many. What makes a unit count is the
    same as ever.
    """
    version = project.version
    if project.proven_hosts or version >= YOUNG_VERSIONS:
        return None
    if is_warm_start(project.metadata, version):
        return None
    return int(max(1, project.active_accounts) * 2**version)


def evaluation_unit(facts: Facts) -> list[NewUnit]:
    """Return the unit that measures a version on the whole holdout; none without a holdout."""
    if not facts.holdout_shards:
        return []
    return [
        NewUnit(
            kind=UnitKind.EVALUATE,
            position=0,
            seed=0,
            shard_first=0,
            shard_count=facts.holdout_shards,
            local_steps=0,
        )
    ]


def unit_seed(project: str, epoch: int, version: int, position: int) -> int:
    """Return 63 bits of SHA-256 over "project/epoch/version/position"."""
    text = f"{project}/{epoch}/{version}/{position}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def unit_statement(row: UnitRow) -> Unit:
    """Return the unit as a manifest states it."""
    return Unit(
        kind=row.kind,
        epoch=row.epoch,
        version=row.version,
        shards=ShardRange(first=row.shard_first, count=row.shard_count),
        seed=row.seed,
        local_steps=row.local_steps,
        versions=row.versions,
        chunk=row.chunk,
    )
