"""Files that never change, brought from one folder to another: linked, or copied and synced."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from pleb_system.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["bring_file", "bring_files"]


def bring_files(places: Iterable[str], target: Path, sources: Iterable[Path]) -> list[str]:
    """Bring what is at `places` below the first source that has it; return what none has.

    What is at the target already stays. A file may be deleted while this runs.
    """
    folders, missing, sources = set(), [], list(sources)
    for place in places:
        path = target / place
        if path.exists():
            continue
        if path.parent not in folders:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folders.add(path.parent)
        if not any(bring_file(source / place, path) for source in sources):
            missing.append(place)
    for folder in {*folders, *(folder.parent for folder in folders)}:
        sync_directory(folder)
    return missing


def bring_file(source: Path, target: Path) -> bool:
    """Link a file or, on another file system, copy it; False: there is none.

    Raises:
        OSError: the disk is full, or the source cannot be read.
    """
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    except OSError:  # another file system, or one without links
        return _copy(source, target)
    return True


def _copy(source: Path, target: Path) -> bool:
    beside = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as opened, beside.open("wb") as file:
            beside.chmod(0o600)
            shutil.copyfileobj(opened, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return False
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(target)
    return True
