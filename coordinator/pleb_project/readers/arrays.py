"""`.npz` and `.npy` files as sources of a project."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pleb_project.readers.files import find_files
from pleb_system.reading.arrays import read_npy, read_npz
from pleb_system.reading.source import Part, Source

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_project.definition.sections import DataSection

__all__ = ["npy_source", "npz_source"]


def npz_source(data: DataSection, folder: Path) -> Source:
    """Return the examples of one archive after the other."""
    files = find_files(data.files, folder, (".npz",))
    kept = find_files(data.holdout_files, folder, (".npz",))
    parts = [Part(str(path), partial(read_npz, path)) for path in (*files, *kept)]
    return Source(parts[: len(files)], parts[len(files) :] or None, [*files, *kept])


def npy_source(data: DataSection, folder: Path) -> Source:
    """Return examples whose inputs are files of their own, named by the input: `x.npy`, `y.npy`.

    The files are read piece by piece, never whole.
    """
    files = find_files(data.files, folder, (".npy",))
    kept = find_files(data.holdout_files, folder, (".npy",))
    parts = [
        Part(str(paths[0].parent), partial(read_npy, paths)) for paths in (files, kept) if paths
    ]
    return Source(parts[:1], parts[1:] or None, [*files, *kept])
