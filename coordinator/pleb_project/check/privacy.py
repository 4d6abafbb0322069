"""What the noise of a project will have earned at its last version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.errors import InputError
from pleb_shared.protocol.privacy import NoisedRound, effective_multiplier, epsilon_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_shared.protocol.project import Privacy, ProjectMetadata

__all__ = ["planned_epsilon", "privacy_words"]


def planned_epsilon(metadata: ProjectMetadata, privacy: Privacy, train_shards: int) -> float:
    """Return the epsilon of all planned versions together.

    Raises:
        InputError: the accountant is not installed.
    """
    rounds = [
        NoisedRound(
            version=version,
            units=metadata.round.units,
            shards_per_unit=metadata.training.shards_per_unit,
            multiplier=privacy.noise_multiplier,
        )
        for version in range(metadata.training.versions)
    ]
    multiplier = effective_multiplier(rounds, train_shards, privacy.owner_shards)
    return epsilon_of(multiplier, privacy.delta)


def privacy_words(metadata: ProjectMetadata, train_shards: int) -> Iterator[str]:
    """Yield what `check` says of it; nothing without noise."""
    privacy = metadata.privacy
    if privacy is None:
        return
    try:
        epsilon = planned_epsilon(metadata, privacy, train_shards)
    except InputError as error:
        yield str(error)
        return
    held = "what one shard holds"
    if privacy.owner_shards > 1:
        held = f"an owner's data, in at most {privacy.owner_shards} shards"
    yield (
        f"epsilon {epsilon:.3g} at version {metadata.training.versions}, with delta "
        f"{privacy.delta:g}, for {held}; not against volunteers, who read shards"
    )
