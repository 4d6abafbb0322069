"""What must fit together between the keys of a project file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_project.definition.sections import DataSection, ProjectDefinition

__all__ = ["SOURCES", "complaints"]

SOURCES: Final = ("csv", "text", "idx", "npz", "python")

Complaint = tuple[tuple[str, str], str]
"""Section and key, and the sentence."""


def complaints(definition: ProjectDefinition) -> Iterator[Complaint]:
    """Yield what does not fit, each with its place."""
    yield from _data(definition.data)
    training, rounds, rules = definition.training, definition.round, definition.verification
    if training.warm_start_versions > training.versions:
        yield ("training", "warm_start_versions"), "warm_start_versions must not exceed versions."
    if rounds.quorum > rounds.units:
        sentence = f"quorum {rounds.quorum} must not exceed units {rounds.units}."
        yield ("round", "quorum"), sentence
    if rules.tolerance_ceiling < rules.tolerance:
        sentence = "tolerance_ceiling must be at least tolerance."
        yield ("verification", "tolerance_ceiling"), sentence


def _data(data: DataSection) -> Iterator[Complaint]:
    sklearn = data.source.startswith("sklearn:")
    if not sklearn and data.source not in SOURCES:
        sentence = (
            f"source {data.source!r} must be 'sklearn:NAME' (like 'sklearn:digits') or one of "
            f"{', '.join(map(repr, SOURCES))}."
        )
        yield ("data", "source"), sentence
    if sklearn and data.files:
        yield ("data", "files"), "remove files: scikit-learn brings its data sets along."
    if data.source in {"csv", "idx", "npz"} and not data.files:
        example = "['images.gz', 'labels.gz']" if data.source == "idx" else f"'data.{data.source}'"
        yield ("data", "source"), f"source {data.source!r} needs files = {example}."
    if data.source == "idx":
        for key, files in (("files", data.files), ("holdout_files", data.holdout_files)):
            if len(files) not in {0, 2}:
                yield ("data", key), f"{key} must be two idx files: the images, then the labels."
