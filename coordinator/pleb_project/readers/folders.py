"""Folders of images or sounds; each subfolder is a class: `train/cat/1.png`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_project.readers.groups import group_columns
from pleb_project.readers.media import SOUND_ENDINGS, Media, group_of
from pleb_shared.errors import InputError
from pleb_system.reading.class_folders import Listed, class_of, list_examples
from pleb_system.reading.images import IMAGE_ENDINGS
from pleb_system.reading.source import GROUP, Chunk, Part, Position, Source, chunk_examples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_project.definition.sections import DataSection
    from pleb_system.reading.source import Rows

__all__ = ["folder_source"]

_FIRST_FILES: Final = 16
"""Read before the size of one is known."""


def folder_source(data: DataSection, folder: Path) -> Source:
    """Return the files of the folders as `x`, and the number of their subfolder as `y`.

    Files with another ending are left out, and so is what begins with a dot.

    Raises:
        InputError: a folder does not exist or has no such file.
    """
    endings = IMAGE_ENDINGS if data.source == "images" else SOUND_ENDINGS
    listed = [list_examples(folder / name, endings) for name in data.files]
    kept = [list_examples(folder / name, endings) for name in data.holdout_files]
    classes = sorted({class_of(name) for some in listed for name in some.names})
    if "" in classes and len(classes) > 1:
        root = next(some for some in listed if any(not class_of(name) for name in some.names))
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
        classes=tuple(classes),
    )


class _Reader:
    def __init__(self, data: DataSection, classes: dict[str, int], counts: dict[str, int]) -> None:
        self._data, self._classes = data, classes
        self._media = Media(data, counts)

    def chunks(self, listed: Listed, position: Position) -> Iterator[Chunk]:
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

    def _label(self, listed: Listed, name: str) -> int:
        label = self._classes.get(class_of(name))
        if label is None:
            raise InputError(
                f"{listed.root / name} is of the class {class_of(name)!r}, which is not among "
                f"those for training: {', '.join(list(self._classes)[:8])}."
            )
        return label
