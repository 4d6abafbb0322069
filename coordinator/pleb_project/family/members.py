"""From one project file to the members of its family, each a project of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import Family, Rung, ShardList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_project.definition.sections import EnsembleSection, ProjectDefinition, SweepSection
    from pleb_project.readers.blobs import BlobFolder
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["as_member", "like_first", "members_of", "same_beginnings", "shards_of"]

_SEEDS: Final = 2**31


def members_of(definition: ProjectDefinition) -> list[ProjectDefinition]:
    """Return the definition of each member; the definition itself if it makes no family.

    Members of an ensemble differ in their names and in the seed of their initial weights, trials of
    a sweep in their names and settings. The order in which a member reads the data follows from its
    name, as that of every project does.
    """
    if definition.trials:
        count = len(definition.trials)
        return [
            _named(trial.definition, number, f"trial {number} of {count}")
            for number, trial in enumerate(definition.trials, 1)
        ]
    if definition.ensemble is None or definition.ensemble.members == 1:
        return [definition]
    count, model = definition.ensemble.members, definition.model
    return [
        msgspec.structs.replace(
            _named(definition, number, f"member {number} of {count}"),
            model=msgspec.structs.replace(model, seed=(model.seed + number - 1) % _SEEDS),
        )
        for number in range(1, count + 1)
    ]


def _named(definition: ProjectDefinition, number: int, what: str) -> ProjectDefinition:
    project = definition.project
    named = msgspec.structs.replace(
        project,
        name=f"{project.name}-{number}",
        title=f"{project.title or project.name}, {what}",
    )
    return msgspec.structs.replace(definition, project=named)


def as_member(
    draft: ProjectMetadata, whole: ProjectDefinition, blobs: BlobFolder
) -> ProjectMetadata:
    """Return the draft of a member as the family that `whole` makes publishes it.

    A member of an ensemble reads its share of the training shards; the holdout is the same for all.
    The list of its shards goes into `blobs`, where that of the draft is.

    Raises:
        InputError: trials of a sweep are to be compared, and there is no holdout.
    """
    names = [member.project.name for member in members_of(whole)]
    if len(names) == 1:
        return draft
    if whole.sweep is not None:
        if whole.sweep.rungs and not shards_of(draft, blobs).holdout:
            raise InputError("The trials of a sweep are compared on a holdout: [data] has none.")
        return msgspec.structs.replace(draft, family=_sweep(whole, whole.sweep, names, draft))
    if whole.ensemble is None:
        raise AssertionError  # what makes several members is one of the two
    family = Family(name=whole.project.name, kind="ensemble", members=names)
    shards = _share(
        shards_of(draft, blobs),
        whole.ensemble,
        family.number_of(draft.project) - 1,
        draft.training.shards_per_unit,
    )
    data = msgspec.structs.replace(draft.data, shards=blobs.put(strict_json.encode(shards)))
    return msgspec.structs.replace(draft, data=data, family=family)


def _sweep(
    whole: ProjectDefinition, sweep: SweepSection, names: list[str], draft: ProjectMetadata
) -> Family:
    """Return the family of a trial, with its settings and how many trials go on at each rung."""
    rungs, left = [], len(names)
    for version in sweep.rungs:
        left = max(1, math.ceil(sweep.keep * left))
        rungs.append(Rung(version=version, keep=left))
    settings = whole.trials[names.index(draft.project)].settings
    return Family(
        name=whole.project.name,
        kind="sweep",
        members=names,
        settings={name: text[: LIMITS.name_characters] for name, text in settings.items()},
        rungs=rungs,
    )


def shards_of(metadata: ProjectMetadata, blobs: BlobFolder) -> ShardList:
    """Return the list of shards that metadata name."""
    return strict_json.decode(
        blobs.get(metadata.data.shards.digest), ShardList, most_bytes=LIMITS.shard_list_bytes
    )


def _share(shards: ShardList, ensemble: EnsembleSection, place: int, least: int) -> ShardList:
    """Return the list with as many training shards as a member reads, at least `least`.

    Shares begin at equal distances, so they overlap as little as they can.
    """
    train = shards.train
    count = min(len(train), max(least, round(ensemble.shards * len(train))))
    first = place * len(train) // ensemble.members
    return ShardList(train=(train + train)[first : first + count], holdout=shards.holdout)


def like_first(draft: ProjectMetadata, first: ProjectMetadata) -> ProjectMetadata:
    """Return a member's metadata with what the check measured for the first member.

    They have the same graphs, so results of any of them differ as much from PC to PC.
    """
    return msgspec.structs.replace(draft, verification=first.verification)


def same_beginnings(drafts: Sequence[ProjectMetadata]) -> str:
    """Return a warning if two members have the same initial weights, else an empty text."""
    digests = [draft.model.initial_digest for draft in drafts]
    if len(set(digests)) == len(digests):
        return ""
    return (
        "Members begin with the same weights and differ only in the order of their data: let "
        "model() take its numbers from torch without setting a seed, and give no `initial`."
    )
