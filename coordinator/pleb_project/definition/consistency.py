"""What must fit together between the fields of a project."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_project.definition.fields import DataFields, ProjectDefinition, TrainingFields

__all__ = ["OPTIMIZER_OPTIONS", "SOURCES", "complaints"]

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
SOURCES: Final = ("csv", "text", "idx", "npz", "python")
_SHARED: Final = frozenset({"momentum", "weight_decay", "beta1", "beta2"})
OPTIMIZER_OPTIONS: Final = {
    "muon": _SHARED
    | {
        "newton_schulz_steps",
        "start_momentum",
        "adam_learning_rate_ratio",
        "adam_weight_decay",
        "matrices",
    },
    "adamw": frozenset({"weight_decay", "beta1", "beta2", "epsilon"}),
    "sgd": frozenset({"momentum", "nesterov", "weight_decay"}),
}
_ALL_OPTIONS: Final = frozenset().union(*OPTIMIZER_OPTIONS.values())

Complaint = tuple[tuple[str, str], str]
"""Section and key, and the sentence."""


def complaints(definition: ProjectDefinition) -> Iterator[Complaint]:
    """Yield what does not fit, each with its place; nothing where all is well."""
    if not _NAME.fullmatch(definition.project.name):
        sentence = (
            f"name {definition.project.name!r} must be of a-z, 0-9 and hyphens inside, "
            "at most 40 characters, such as 'my-project'."
        )
        yield ("project", "name"), sentence
    yield from _data(definition.data)
    yield from _options(definition.training)
    if definition.training.warm_start_versions > definition.training.versions:
        yield ("training", "warm_start_versions"), "warm_start_versions must not exceed versions."
    if definition.quorum > definition.round.units:
        yield (
            ("round", "quorum"),
            f"quorum {definition.quorum} must not exceed units {definition.round.units}.",
        )
    verification = definition.verification
    if verification.tolerance and (verification.tolerance_ceiling or 1) < verification.tolerance:
        yield (
            ("verification", "tolerance_ceiling"),
            "tolerance_ceiling must be at least tolerance.",
        )


def _data(data: DataFields) -> Iterator[Complaint]:
    sklearn = data.source.startswith("sklearn:")
    if not sklearn and data.source not in SOURCES:
        yield (
            ("data", "source"),
            (
                f"source {data.source!r} must be 'sklearn:NAME' (like 'sklearn:digits') or one of "
                f"{', '.join(map(repr, SOURCES))}."
            ),
        )
    if sklearn and data.files:
        yield ("data", "files"), "files must go: scikit-learn brings its data sets along."
    if data.source in {"csv", "idx", "npz"} and not data.files:
        example = "['images.gz', 'labels.gz']" if data.source == "idx" else f"'data.{data.source}'"
        yield ("data", "source"), f"source {data.source!r} needs files = {example}."
    if data.source == "idx":
        for key, files in (("files", data.files), ("holdout_files", data.holdout_files)):
            if len(files) not in {0, 2}:
                yield ("data", key), f"{key} must be two idx files: the images, then the labels."
    if len(data.delimiter) != 1:
        yield ("data", "delimiter"), "delimiter must be one character, such as ',' or '\\t'."


def _options(training: TrainingFields) -> Iterator[Complaint]:
    allowed = OPTIMIZER_OPTIONS[training.optimizer]
    for name in sorted(_ALL_OPTIONS - allowed):
        if getattr(training, name) not in (None, ()):
            owners = [f"{o!r}" for o, names in OPTIMIZER_OPTIONS.items() if name in names]
            yield (
                ("training", name),
                (
                    f"{name} is no option of {training.optimizer!r} but of {' and '.join(owners)}: "
                    "remove it or change the optimizer."
                ),
            )
