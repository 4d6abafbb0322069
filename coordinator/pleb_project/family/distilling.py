"""The student of an ensemble, written into the project's folder as the model of another project."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_project.family.download import AVERAGED, download_members
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_project.definition.sections import ProjectDefinition
    from pleb_project.download import Wanted
    from pleb_project.server.client import Coordinator
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["STUDENT", "download_teacher", "write_student"]

STUDENT: Final = "student.py"
_MEMBERS: Final = "members"
_SOURCE: Final = Path(__file__).with_name(STUDENT)


def download_teacher(
    coordinator: Coordinator,
    links: Sequence[AttachLink],
    definition: ProjectDefinition,
    wanted: Wanted,
    *,
    scores: bool,
) -> list[Path]:
    """Write the members of an ensemble and their student; return the files.

    Raises:
        InputError: one of them exists, or cannot be written.
        PlebError: as `download_members`.
    """
    folder = _code_folder(definition)
    if (folder / STUDENT).exists():
        raise InputError(f"{folder / STUDENT} already exists: remove it, or rename it.")
    download_members(coordinator, links, folder / _MEMBERS, wanted)
    (folder / _MEMBERS / AVERAGED.name).unlink()  # it goes beside the student, which imports it
    return write_student(definition, scores=scores)


def write_student(definition: ProjectDefinition, *, scores: bool) -> list[Path]:
    """Write the student of members whose weights are in `members/`; return the files.

    `scores`: whether the models return scores of classes, else values.

    Raises:
        InputError: a file cannot be written, or the model's cannot be imported by its name.
    """
    folder, name = _code_folder(definition), Path(definition.model.file).stem
    if not name.isidentifier():
        raise InputError(
            f"{definition.model.file} cannot be imported: give it a name like model.py."
        )
    average = definition.ensemble.average if definition.ensemble else "outputs"
    text = _SOURCE.read_text(encoding="utf-8")
    text = text.replace("import model as members", f"import {name} as members")
    text = text.replace('AVERAGE = "outputs"', f'AVERAGE = "{average}"')
    text = text.replace("SCORES = True", f"SCORES = {scores}")
    try:
        (folder / STUDENT).write_text(text, encoding="utf-8")
        shutil.copyfile(AVERAGED, folder / AVERAGED.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    return [folder / STUDENT, folder / AVERAGED.name, *sorted((folder / _MEMBERS).iterdir())]


def _code_folder(definition: ProjectDefinition) -> Path:
    return (definition.folder / definition.model.file).resolve().parent
