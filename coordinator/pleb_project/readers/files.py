"""The files that a [data] section names: paths, folders, and patterns with `*`."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["find_files"]


def find_files(names: tuple[str, ...], folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files that `names` mean, relative to `folder`, each pattern's by name.

    A folder means the files in it with one of `endings`; without endings it stands for itself.

    Raises:
        InputError: a pattern or a folder has none.
    """
    found: list[Path] = []
    for name in names:
        path = folder / name
        if not path.exists() and any(character in name for character in "*?["):
            matches = sorted(glob.glob(name, root_dir=folder, recursive=True))  # noqa: PTH207
            if not matches:
                raise InputError(f"No file is like {path}: check files in [data].")
            found += [folder / match for match in matches]
        elif endings and path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.name.endswith(endings))
            if not inside:
                raise InputError(f"{path} has no {' or '.join(endings)} files.")
            found += inside
        else:
            found.append(path)
    return found
