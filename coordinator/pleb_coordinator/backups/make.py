"""Make a backup of a home, which may be serving meanwhile.

    files -> the store -> the files that came meanwhile -> backup.json -> the final name

The store is copied by SQLite's own backup, in one read transaction: one moment of it, while others
go on writing. Its files never change, only come and go, so they are linked, or copied where the
backup is on another disk, from the last backup if that has them. Most files come before the store:
a file that its rows refer to is deleted ten minutes after the rows are, at the earliest.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.backups.contents import (
    BACKUP_FILE,
    CONFIG_FILE,
    FORMAT,
    STORE_FILE,
    Backup,
    SavedProject,
    backups_in,
    digest_of_file,
    files_of,
    key_files,
)
from pleb_coordinator.backups.copying import bring_files
from pleb_coordinator.home.config import read_config
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError
from pleb_system.durable import rename_durably, sync_directory, write_durably
from pleb_system.lock import hold_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pleb_coordinator.home.layout import Home

__all__ = ["make_backup", "prune"]

_TRIES: Final = 3
"""Of a store whose files went while they were copied."""


def make_backup(home: Home, to: Path, keys: Path, now: float) -> Path:
    """Make a backup in a new folder below `to`, and save the keys in `keys`; return the folder.

    Raises:
        InputError: `to` is inside the home, or the disk is full.
        HomeInUseError: another process makes one there.
        OSError: a folder cannot be written.
    """
    config = read_config(home.config_file)
    if config.store or config.blobs:
        message = (
            "This home's rows are in PostgreSQL, or its files in a bucket: back these up with "
            "their own tools, and then the home's folder (docs/operating.md says how)."
        )
        raise InputError(message)
    if to.resolve().is_relative_to(home.path.resolve()):
        message = f"{to} is inside the home, and would be lost with it: give another folder."
        raise InputError(message)
    to.mkdir(parents=True, exist_ok=True, mode=0o700)
    with hold_lock(to / ".lock", holder="`pleb-coordinator backup`", remedy="wait for its end"):
        for left in to.glob(".*.part"):  # of one that was killed
            shutil.rmtree(left)
        name = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        if (to / name).exists():
            raise InputError(f"{to / name} exists already: wait a second.")
        partial = to / f".{name}.part"
        partial.mkdir(mode=0o700)
        try:
            _fill(home, partial, backups_in(to)[-1:], now)
            save_keys(home.path, keys)
            rename_durably(partial, to / name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return to / name


def save_keys(source: Path, target: Path) -> None:
    """Copy the secret files of a home to a folder, or back; files of earlier keys stay there.

    Raises:
        OSError: a folder cannot be read or written.
    """
    for place in key_files(source):
        file = target / place
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = (source / place).read_bytes()
        if not file.exists() or file.read_bytes() != content:
            write_durably(file, content, private=True)


def prune(to: Path, keep: int) -> list[Path]:
    """Remove all backups but the newest ones; return which were removed."""
    old = backups_in(to)[:-keep]
    for folder in old:
        doomed = folder.with_name(f".{folder.name}.part")
        rename_durably(folder, doomed)  # never half of one under a backup's name
        shutil.rmtree(doomed)
    return old


def _fill(home: Home, folder: Path, earlier: Sequence[Path], now: float) -> None:
    sources = [*earlier, home.path]
    store = Store(home.store_file)
    try:
        with store.read() as tx:
            places = files_of(tx)
    finally:
        store.close()
    bring_files(places, folder, sources)
    missing: list[str] = []
    for _ in range(_TRIES):
        copy_store(home.store_file, folder / STORE_FILE)
        projects, places = _read(folder / STORE_FILE)
        missing = bring_files(places, folder, sources)
        if not missing:
            break
    else:
        message = (
            f"{len(missing)} files that the store refers to are not there, {missing[0]} among "
            "them: run `pleb-coordinator doctor`."
        )
        raise InputError(message)
    shutil.copyfile(home.config_file, folder / CONFIG_FILE)
    backup = Backup(
        format=FORMAT,
        made_at=int(now),
        store=digest_of_file(folder / STORE_FILE),
        files=len(places),
        bytes=sum((folder / place).stat().st_size for place in [*places, STORE_FILE]),
        projects=projects,
    )
    write_durably(folder / BACKUP_FILE, msgspec.json.encode(backup))
    sync_directory(folder)


def copy_store(source: Path, target: Path) -> None:
    """Copy one moment of a store that others may be writing to; the copy is one file.

    Raises:
        InputError: the disk is full, or the store cannot be read.
    """
    target.unlink(missing_ok=True)
    try:
        with (
            contextlib.closing(sqlite3.connect(source)) as opened,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            target.chmod(0o600)
            opened.backup(copy)  # all pages at once: in parts, it would start again at each commit
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        message = f"The store cannot be copied to {target.parent} ({error}): free some space there."
        raise InputError(message) from error


def _read(store_file: Path) -> tuple[list[SavedProject], dict[str, str]]:
    """Return the projects of a copied store, and the files that it refers to."""
    store = Store(store_file)
    try:
        with store.read() as tx:
            places = files_of(tx)
            found = [tx.projects.find(name) for name in tx.projects.names()]
    finally:
        store.close()
    with contextlib.closing(sqlite3.connect(store_file)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")  # `Store` made it one with a log beside it
    return [SavedProject(one.name, one.epoch, one.version) for one in found], places
