"""What a backup consists of.

TO/keys/                     the keys, with the home's layout: whoever has them is this
                             coordinator, so that they can be kept elsewhere (`--keys`)
TO/2026-11-29T02-10-33Z/     one backup
    store.sqlite             the store as it was at one moment
    blobs/ deltas/           the files that its rows refer to
    coordinator.toml
    backup.json              written last
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_coordinator.blobs.local import blob_place, delta_place
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "BACKUP_FILE",
    "CONFIG_FILE",
    "FORMAT",
    "STORE_FILE",
    "Backup",
    "SavedProject",
    "backups_in",
    "digest_of_file",
    "files_of",
    "key_files",
    "read_backup",
]

FORMAT: Final = 1
BACKUP_FILE: Final = "backup.json"
STORE_FILE: Final = "store.sqlite"
CONFIG_FILE: Final = "coordinator.toml"
_READ_BYTES: Final = 2**20
_MOST_BYTES: Final = 2**24


class SavedProject(msgspec.Struct, frozen=True):
    """Where a project was."""

    name: str
    epoch: int
    version: int


class Backup(msgspec.Struct, frozen=True):
    """What `backup.json` says."""

    format: Annotated[int, msgspec.Meta(ge=1)]
    made_at: int
    store: str
    """The SHA-256 of the store's file."""
    files: int
    bytes: int
    projects: list[SavedProject]


def files_of(tx: Transaction) -> dict[str, str]:
    """Return the files that rows refer to: their places below the home, with their SHA-256."""
    return {blob_place(digest): digest for digest in tx.references.blobs()} | {
        delta_place(assignment): digest for assignment, digest in tx.references.delta_files()
    }


def key_files(home: Path) -> Iterator[str]:
    """Yield the places of the secret files below a home, or below a folder of saved ones."""
    for pattern in ("keys/*.key", "secret", "tls/*.pem"):
        yield from sorted(path.relative_to(home).as_posix() for path in home.glob(pattern))


def backups_in(folder: Path) -> list[Path]:
    """Return the finished backups in a folder, oldest first."""
    return sorted(path.parent for path in folder.glob(f"[0-9]*/{BACKUP_FILE}"))


def read_backup(folder: Path) -> Backup:
    """Return what a backup's own file says.

    Raises:
        InputError: it is none, or one of a newer release.
    """
    file = folder / BACKUP_FILE
    try:
        with file.open("rb") as opened:
            backup = msgspec.json.decode(opened.read(_MOST_BYTES), type=Backup)
    except (FileNotFoundError, NotADirectoryError) as error:
        message = f"There is no backup in {folder}: give the folder that `backup` was given."
        raise InputError(message) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is damaged: choose another backup.") from error
    if backup.format > FORMAT:
        message = f"{folder} was made by a newer release: update this one, then restore it."
        raise InputError(message)
    return backup


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file. Raises `OSError`."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            hasher.update(part)
    return hasher.hexdigest()
