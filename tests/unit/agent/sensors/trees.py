"""Plants the small files of a kernel that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

UNREADABLE = object()
"""A file whose reading fails, as one of a device that answers with EIO."""


def plant(root: Path, files: dict[str, object]) -> Path:
    """Write `files` (path below `root`: its text) and return `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is UNREADABLE:
            path.mkdir()  # reading a folder as a file is an OSError for root, too
        else:
            path.write_text(f"{text}\n", encoding="utf-8")
    return root


def supply(name: str, **files: object) -> dict[str, object]:
    """Return the files of one power supply."""
    return {f"{name}/{key}": value for key, value in files.items()}
