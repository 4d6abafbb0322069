"""Which units make a version: how many, on which shards, from which seeds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Facts, NewUnit, Project, Record, UnitRow
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pleb_coordinator.core.records import VersionInput
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = [
    "LONGEST_WARM_START_SECONDS",
    "WARM_START_WAITS_SECONDS",
    "YOUNG_VERSIONS",
    "Around",
    "always_unconfirmed",
    "evaluation_unit",
    "is_warm_start",
    "round_quorum",
    "round_units",
    "unit_seed",
    "unit_statement",
    "warm_start_pays",
    "warm_start_units",
    "young_quorum",
]

YOUNG_VERSIONS: Final = 5
"""Rounds of a fleet without proven hosts that may be small."""
_YOUNG_UNITS: Final = 4
"""Verified units of the first version for each trusted host, which has to compute them all."""
LONGEST_WARM_START_SECONDS: Final = 600.0
"""What a version's warm start may take: others wait for it."""
WARM_START_WAITS_SECONDS: Final = 60.0
"""For a trusted host to come, while others have nothing to do."""


class Around(Record, frozen=True):
    """Who asked for work lately."""

    trusted: int
    """Trusted hosts that have the memory for the whole model."""
    fastest_trusted: float | None
    """Seconds per step of the fastest trusted host; None: not known."""
    others: int
    """Accounts of hosts that are not trusted."""


def is_warm_start(inputs: Iterable[VersionInput]) -> bool:
    """Whether a version that is made from `inputs` is a warm start: one large-batch unit's."""
    return any(entry.batches_per_step > 1 for entry in inputs)


def warm_start_pays(
    metadata: ProjectMetadata, version: int, around: Around, open_seconds: float
) -> bool:
    """Whether the round after `version`, open for so long, should be one trusted host's alone.

    Early on, eight averaged short chains learn less than one with a large batch does from the same
    samples (docs/decisions/0055). But others have nothing to do meanwhile: so it must not take
    long, and where others are around but no trusted host comes, they begin.
    """
    training = metadata.training
    if version >= training.warm_start_versions:
        return False
    if around.trusted:
        batches = training.local_steps * training.warm_start_batches
        return batches * (around.fastest_trusted or 0.0) <= LONGEST_WARM_START_SECONDS
    return not around.others or open_seconds < WARM_START_WAITS_SECONDS


def warm_start_units(metadata: ProjectMetadata, facts: Facts, version: int) -> list[NewUnit]:
    """Return the one unit of a warm start: as many batches of as many shards as a round has."""
    training = metadata.training
    if version >= training.versions:
        return []
    batches = training.warm_start_batches
    first = version * metadata.round.units * training.shards_per_unit
    return [
        NewUnit(
            kind=UnitKind.TRAIN,
            position=0,
            seed=unit_seed(metadata.project, metadata.epoch, version, 0),
            shard_first=first % facts.train_shards,
            shard_count=min(training.shards_per_unit * batches, facts.train_shards),
            local_steps=min(training.local_steps * batches, LIMITS.local_steps),
            versions=training.versions,
            batches_per_step=batches,
        )
    ]


def round_units(
    metadata: ProjectMetadata, facts: Facts, version: int, *, first_position: int = 0
) -> list[NewUnit]:
    """Return the training units that start from `version`; empty when it is the last one.

    Units of all rounds, counted through, take the shards in turn, so after any number of
    rounds no shard was used more than once more often than another. Their places in the round are
    counted from `first_position` on.
    """
    training = metadata.training
    if version >= training.versions:
        return []
    first = version * metadata.round.units  # the units of all rounds before
    is_own = metadata.data.own is not None  # each host reads a shard of its own
    count = 1 if is_own else training.shards_per_unit
    return [
        NewUnit(
            kind=UnitKind.TRAIN,
            position=first_position + position,
            seed=unit_seed(metadata.project, metadata.epoch, version, first_position + position),
            shard_first=0 if is_own else (first + position) * count % facts.train_shards,
            shard_count=count,
            local_steps=training.local_steps,
            versions=training.versions,
        )
        for position in range(metadata.round.units)
    ]


def round_quorum(metadata: ProjectMetadata) -> int:
    """Return how many of a round's units must be verified before the next version is made."""
    return min(metadata.round.quorum, metadata.round.units)


def young_quorum(project: Project, trusted: int) -> int | None:
    """Return how many verified units are enough while a fleet is young; None: it is not.

    `trusted`: how many trusted hosts are around.

    It is young until a host is proven: up to then trusted hosts compute every unit, also those that
    new hosts train, and a whole round would be their work for long. At first gradients agree so
    much that few of them do (McCandlish et al. 2018, the critical batch size), so the first version
    needs one unit of each account, each following one twice as many. Where many share the few that
    trusted hosts have time for, it needs no more of them than a few unit times bring. What makes a
    unit count is the same as ever. With [privacy] no round is small: which of its units are in must
    say nothing. Nor is one of members' own data, which a rule combines that needs several of them.
    """
    version = project.version
    if project.metadata.privacy is not None or project.metadata.data.own is not None:
        return None
    if project.proven_hosts or version >= YOUNG_VERSIONS:
        return None
    return int(min(max(1, project.active_accounts), _most_young(trusted)) * 2**version)


def always_unconfirmed(project: Project, trusted: int) -> bool:
    """Whether so many are new that some of their results always wait for a trusted host."""
    return project.active_accounts > _most_young(trusted)


def _most_young(trusted: int) -> int:
    return _YOUNG_UNITS * max(1, trusted)


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
        batches_per_step=row.batches_per_step,
        chunk=row.chunk,
    )
