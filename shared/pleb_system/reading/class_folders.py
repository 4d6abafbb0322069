"""Folders whose subfolders are classes: `train/cat/1.png`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Listed", "class_of", "list_examples"]


class Listed(NamedTuple):
    """A folder and the files in it that are examples: their paths inside it, sorted."""

    root: Path
    names: list[str]
    left_out: int


def list_examples(root: Path, endings: tuple[str, ...]) -> Listed:
    """Return the files of a folder that have one of `endings`; hidden ones are left out.

    Raises:
        InputError: there is no such folder, or no such file in it.
    """
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
    return Listed(root, sorted(names), left_out)


def class_of(name: str) -> str:
    """Return the first folder of a path inside the source's folder, empty if it has none."""
    return name.partition("/")[0] if "/" in name else ""
