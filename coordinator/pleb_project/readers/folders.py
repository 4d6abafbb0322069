"""Folders of images or sounds; each subfolder is a class: `train/cat/1.png`."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pleb_project.readers.groups import group_columns
from pleb_project.readers.media import IMAGE_ENDINGS, SOUND_ENDINGS, Media, group_of
from pleb_project.readers.source import GROUP, Chunk, Part, Position, Source, chunk_examples
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection
    from pleb_project.readers.source import Rows

__all__ = ["folder_source"]

_FIRST_FILES: Final = 16
"""Read before the size of one is known."""


class _Listed(NamedTuple):
    """A folder and the files in it that are examples: their paths inside it, sorted."""

    root: Path
    names: list[str]
    left_out: int


def folder_source(data: DataSection, folder: Path) -> Source:
    """Return the files of the folders as `x`, and the number of their subfolder as `y`.

    Files with another ending are left out, and so is what begins with a dot.

    Raises:
        InputError: a folder does not exist or has no such file.
    """
    endings = IMAGE_ENDINGS if data.source == "images" else SOUND_ENDINGS
    listed = [_listed(folder / name, endings) for name in data.files]
    kept = [_listed(folder / name, endings) for name in data.holdout_files]
    classes = sorted({_class(name) for some in listed for name in some.names})
    if "" in classes and len(classes) > 1:
        root = next(some for some in listed if any(not _class(name) for name in some.names))
        raise InputError(
            f"{root.root} has files beside its subfolders: put each into the subfolder of its "
            "class, or all into none."
        )
    counts: dict[str, int] = {}
    reader = _Reader(data, {name: number for number, name in enumerate(classes)}, counts)
    parts = [Part(str(some.root), partial(reader.chunks, some)) for some in (*listed, *kept)]
    notes = [f"classes: {', '.join(f'{n} {c}' for n, c in enumerate(classes[:20]))}"]
    notes = notes if classes != [""] else []
    if left_out := sum(some.left_out for some in (*listed, *kept)):
        notes.append(f"files that are left out for their ending: {left_out}")
    return Source(
        parts[: len(listed)],
        parts[len(listed) :] or None,
        [some.root / name for some in (*listed, *kept) for name in some.names],
        lambda: tuple(notes),
        counts=counts,
    )


class _Reader:
    def __init__(self, data: DataSection, classes: dict[str, int], counts: dict[str, int]) -> None:
        self._data, self._classes = data, classes
        self._media = Media(data, counts)

    def chunks(self, listed: _Listed, position: Position) -> Iterator[Chunk]:
        """Yield the files of a folder from a position on.

        Raises:
            InputError: a file cannot be read, or is of a class that training does not have.
        """
        start, most = position[0], _FIRST_FILES
        while names := listed.names[start : start + most]:
            sources = [(listed.root / name, str(listed.root / name)) for name in names]
            decode = self._media.images if self._data.source == "images" else self._media.sounds
            rows: Rows = decode("x", sources)
            most = chunk_examples(sum(a[0].nbytes for a in rows.values()))
            if self._classes.keys() != {""}:
                rows["y"] = np.array([self._label(listed, name) for name in names], np.int64)
            for pattern in group_columns(self._data):
                rows[GROUP + pattern] = np.array([group_of(pattern, name) for name in names])
            start += len(names)
            yield Chunk(rows, f"{sources[0][1]} to {sources[-1][1]}", (start, 0))

    def _label(self, listed: _Listed, name: str) -> int:
        label = self._classes.get(_class(name))
        if label is None:
            raise InputError(
                f"{listed.root / name} is of the class {_class(name)!r}, which is not among "
                f"those for training: {', '.join(list(self._classes)[:8])}."
            )
        return label


def _listed(root: Path, endings: tuple[str, ...]) -> _Listed:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: name the one with the classes as subfolders.")
    names: list[str] = []
    left_out = 0
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        shown = [name for name in files if not name.startswith(".")]
        own = [prefix + name for name in shown if name.lower().endswith(endings)]
        left_out += len(shown) - len(own)
        names += own
    if not names:
        raise InputError(f"{root} has no file that ends in {', '.join(endings)}.")
    return _Listed(root, sorted(names), left_out)


def _class(name: str) -> str:
    """Return the first folder of a path inside the source's folder, empty if it has none."""
    return name.partition("/")[0] if "/" in name else ""
