"""What is in a folder, by the names, sizes and times of its files."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["folder_fingerprint"]

_MOST_FILES: Final = 1_000_000


def folder_fingerprint(folder: Path) -> str:
    """Return a name for what is in a folder, by the names, sizes and times of its files.

    It stays on this PC.

    Raises:
        InputError: the folder cannot be read, or has too many files.
    """
    digest, count = hashlib.sha256(), 0

    def failed(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error

    for root, folders, files in os.walk(folder, onerror=failed):
        folders.sort()
        for name in sorted(files):
            count += 1
            if count > _MOST_FILES:
                raise InputError(f"{folder} has more than {_MOST_FILES} files.")
            path = os.path.join(root, name)  # noqa: PTH118 - a Path for each of a million files
            try:
                stat = os.stat(path)  # noqa: PTH116
            except OSError as error:
                failed(error)
                raise
            line = f"{path}\0{stat.st_size},{stat.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
