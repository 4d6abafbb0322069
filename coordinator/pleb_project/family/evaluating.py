"""How good members of an ensemble are on the holdout, and how good their average is."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from pleb_project.check.draft import export_code
from pleb_project.check.researcher_code import load_code
from pleb_project.download import NEWEST, download_model
from pleb_project.family.averaged import Averaged
from pleb_project.publish.rules import pinned
from pleb_project.server.status import decode_status
from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import ShardList
from pleb_shared.protocol.status import overall
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.training.data import UnitData
from pleb_shared.training.evaluation import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_project.definition.sections import ModelSection, ProjectDefinition
    from pleb_project.download import Wanted
    from pleb_project.server.client import Coordinator
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["Evaluated", "Member", "evaluate_average", "evaluate_published"]


@dataclass(frozen=True)
class Member:
    """A member's version, and its metrics on the holdout as the project's hosts measured them."""

    project: str
    version: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Evaluated:
    """The members of an ensemble, and the metrics of the mean of what they predict."""

    members: list[Member]
    average: dict[str, float]


def evaluate_published(
    coordinator: Coordinator,
    links: Sequence[AttachLink],
    definition: ProjectDefinition,
    wanted: Wanted = NEWEST,
    say: Callable[[str], None] = lambda _: None,
) -> Evaluated:
    """Return how good the published members are, and their average.

    `definition` has the researcher's code, with which the members were published.

    Raises:
        InputError: the project has no holdout, or is a sweep.
        PlebError: a version cannot be downloaded, or the code not be used.
    """
    of = definition.ensemble.average if definition.ensemble else "outputs"
    metadata = pinned(coordinator.metadata(links[0].project), links[0])
    if metadata.family is not None and metadata.family.kind == "sweep":
        raise InputError(
            f"{metadata.family.name} is a sweep, whose trials have no average: name one of them by "
            "--project."
        )
    shards = strict_json.decode(
        coordinator.blob(metadata.data.shards.digest),
        ShardList,
        most_bytes=LIMITS.shard_list_bytes,
    )
    if not shards.holdout:
        raise InputError(f"{links[0].project} has no holdout on which it could be evaluated.")
    holdout = [load_tensors(coordinator.blob(shard.digest)) for shard in shards.holdout]
    members = []
    with tempfile.TemporaryDirectory(prefix="pleb-evaluate-") as name:
        files = [Path(name) / f"{link.project}.safetensors" for link in links]
        for link, file in zip(links, files, strict=True):
            say(f"Downloading {link.project}")
            saved = download_model(coordinator, link, file, wanted)
            status = decode_status(coordinator.status(link.project))
            points = [point for point in status.series if point.version == saved.version]
            metrics = points[0].metrics if points and saved.epoch == status.epoch else {}
            if not metrics:  # not evaluated yet, or of an earlier epoch
                metrics = evaluate_average(
                    definition.model, definition.folder, [file], metadata, holdout
                )
            members.append(Member(link.project, saved.version, dict(metrics)))
        say("Evaluating the average on this PC")
        average = evaluate_average(
            definition.model, definition.folder, files, metadata, holdout, of
        )
    return Evaluated(members, overall(average))


def evaluate_average(
    section: ModelSection,
    folder: Path,
    files: Sequence[Path],
    metadata: ProjectMetadata,
    holdout: Sequence[Tensors],
    of: str = "outputs",
) -> dict[str, float]:
    """Return the metrics of the averaged prediction of some models on the holdout.

    They are computed as hosts compute those of a version: by the evaluation graph of `evaluate`,
    here of a module that averages what the models return.

    Args:
        section: where the researcher's code is.
        folder: where its paths begin.
        files: the weights of each model, as safetensors; one file: that model's own metrics.
        metadata: of the project, or of any member.
        holdout: shards, each with [examples, *shape] for each input, or one flat array of windows.
        of: what is averaged, as `Averaged` has it.

    Raises:
        PlebError: the code or a file cannot be used, or the models do not return what can be
            averaged; the message says what to change.
    """
    codes = [
        load_code(msgspec.structs.replace(section, initial=str(file.absolute())), folder)
        for file in files
    ]
    code = codes[0]
    if len(codes) > 1:
        code = dataclasses.replace(code, model=Averaged([one.model for one in codes], of))
    batch = UnitData(metadata.data, holdout[:1]).training_batch(
        0, 0, metadata.training.batch_examples
    )
    inputs = {name: torch.from_numpy(array) for name, array in batch.items()}
    exported = export_code(code, [inputs], folder)
    unit = Unit(
        kind=UnitKind.EVALUATE,
        epoch=metadata.epoch,
        version=0,
        shards=ShardRange(first=0, count=len(holdout)),
        seed=0,
        local_steps=0,
    )
    metrics, _ = evaluate(
        exported.compiled(exported.evaluation_graph),
        msgspec.structs.replace(metadata, model=exported.model),
        unit,
        load_tensors(exported.initial),
        holdout,
    )
    return metrics
