"""What a project's noise has earned up to now, and will have at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pleb_shared.errors import InputError
from pleb_shared.protocol.privacy import (
    NoisedRound,
    Unearned,
    effective_multiplier,
    epsilon_of,
)
from pleb_shared.protocol.status import PrivacyStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.records import Project, VersionNoise
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.project import Privacy, ProjectMetadata

__all__ = ["privacy_status"]


def privacy_status(tx: Transaction, project: Project) -> PrivacyStatus | None:
    """Return the epsilon of every version that was ever made, or why there is none.

    Versions of earlier epochs and those that were taken back count, too: they were readable. None:
    the project has no noise.
    """
    metadata = project.metadata
    privacy = metadata.privacy
    if privacy is None:
        return None
    made = tx.versions.noise(project.id)
    used = {
        number: tx.projects.metadata_at(project.id, number)
        for number in {row.metadata_number for row in made}
    }
    status = PrivacyStatus(
        clip_norm=privacy.clip_norm,
        noise_multiplier=privacy.noise_multiplier,
        delta=privacy.delta,
        owner_shards=privacy.owner_shards,
    )
    if unearned := _unearned(project, privacy, made, used):
        return replace(status, unearned=[*unearned])
    past = [
        _round(used[row.metadata_number], noised, row.number - 1)
        for row in made
        if (noised := used[row.metadata_number].privacy) is not None
    ]
    ahead = range(project.version, metadata.training.versions)
    rounds = [*past, *(_round(metadata, privacy, version) for version in ahead)]
    shards, owned = project.facts.train_shards, privacy.owner_shards
    try:
        now, planned = (
            epsilon_of(effective_multiplier(some, shards, owned), privacy.delta)
            for some in (past, rounds)
        )
    except InputError:
        return replace(status, unearned=[Unearned.NOT_INSTALLED])
    return replace(status, epsilon=now, epsilon_planned=planned)


def _unearned(
    project: Project,
    privacy: Privacy,
    made: Sequence[VersionNoise],
    used: dict[int, ProjectMetadata],
) -> list[Unearned]:
    data = project.metadata.data.shards.digest
    faults = {
        Unearned.NO_NOISE: any(not row.noise for row in made),
        Unearned.QUORUM: any(
            row.results < used[row.metadata_number].round.units for row in made if row.noise
        ),
        Unearned.OTHER_DATA: any(each.data.shards.digest != data for each in used.values()),
        Unearned.RESTORED: project.restored_at > 0,
        Unearned.DELTA: privacy.delta * project.facts.train_shards >= 1,
    }
    return [reason for reason, applies in faults.items() if applies]


def _round(metadata: ProjectMetadata, privacy: Privacy, version: int) -> NoisedRound:
    """Return the round that starts from `version`."""
    return NoisedRound(
        version=version,
        units=metadata.round.units,
        shards_per_unit=metadata.training.shards_per_unit,
        multiplier=privacy.noise_multiplier,
    )
