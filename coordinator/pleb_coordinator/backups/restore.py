"""Make a home of a backup: verify all of it, bring it to its place, and let agents go on with it.

Agents have seen versions that the backup does not have, and never go back by themselves. The root
key has permitted it in advance (`Delegation.may_restore`), for a coordinator that says when it was
restored; so that time is written, and signed into every reply. docs/decisions/0042 has the reasons.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_coordinator.backups.contents import (
    BACKUP_FILE,
    CONFIG_FILE,
    STORE_FILE,
    Backup,
    backups_in,
    digest_of_file,
    files_of,
    read_backup,
)
from pleb_coordinator.backups.copying import bring_files
from pleb_coordinator.backups.make import save_keys
from pleb_coordinator.core.permission import permission_warning
from pleb_coordinator.home.config import read_config
from pleb_coordinator.home.keys import OnlineKeys, read_secret
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps.outcome import expire_lease
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError, PlebError
from pleb_system.durable import rename_durably

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["Restored", "newest_or_itself", "open_to_agents", "restore", "verify"]

_MOST_LEASES: Final = 10**9


@dataclass(frozen=True)
class Restored:
    """A project of a restored home."""

    project: str
    epoch: int
    version: int
    obstacle: str
    """Why agents will not follow, and what to do; empty: they will."""


def newest_or_itself(folder: Path) -> Path:
    """Return the newest backup of a folder of backups; one that is a backup itself stays.

    Raises:
        InputError: there is none.
    """
    if (folder / BACKUP_FILE).exists():
        return folder
    found = backups_in(folder)
    if not found:
        raise InputError(
            f"There is no backup in {folder}: give the folder that `backup` was given."
        )
    return found[-1]


def verify(folder: Path) -> Backup:
    """Read every byte of a backup; return what it says of itself.

    Raises:
        InputError: something is damaged or missing; the message names it.
    """
    with tempfile.TemporaryDirectory(prefix="pleb-backup-") as place:
        return _verified(folder, Path(place) / STORE_FILE)[0]


def restore(home: Home, folder: Path, keys: Path, now: float) -> list[Restored]:
    """Make the home of the backup in `folder` and the keys in `keys`; say where projects are.

    A crash leaves no home, only a folder beside its place that the next call removes.

    Raises:
        InputError: the home is not empty, the backup is damaged, or a key is missing.
        OSError: a folder cannot be written.
    """
    if home.path.exists() and any(home.path.iterdir()):
        message = (
            f"{home.path} is not empty, and nothing is overwritten: stop the coordinator, move the "
            f"folder away (mv {home.path} {home.path}.old), then restore again."
        )
        raise InputError(message)
    staging = Home(home.path.with_name(f".{home.path.name}.restoring"))
    shutil.rmtree(staging.path, ignore_errors=True)
    try:
        for made in staging.folders:
            made.mkdir(parents=True, mode=0o700, exist_ok=True)
        save_keys(keys, staging.path)
        _check_keys(staging, keys)
        _, places = _verified(folder, staging.store_file)
        bring_files(places, staging.path, [folder])
        shutil.copyfile(folder / CONFIG_FILE, staging.config_file)
        restored = _open_to_agents(staging, now)
        if home.path.exists():
            home.path.rmdir()
        rename_durably(staging.path, home.path)
    except BaseException:
        shutil.rmtree(staging.path, ignore_errors=True)
        raise
    return restored


def _verified(folder: Path, store_copy: Path) -> tuple[Backup, dict[str, str]]:
    """Verify a backup, and return what it says and the files that its rows refer to.

    Its store is opened as a copy in `store_copy`, since opening a store changes it.
    """
    backup = read_backup(folder)
    read_config(folder / CONFIG_FILE)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(folder / STORE_FILE, store_copy)
    if not store_copy.exists() or digest_of_file(store_copy) != backup.store:
        raise _damaged(folder, STORE_FILE)
    if not _is_sound(store_copy):
        raise _damaged(folder, STORE_FILE)

    with contextlib.closing(Store(store_copy)) as store, store.read() as tx:
        places = files_of(tx)
    for place, digest in places.items():
        if _digest(folder / place) != digest:
            raise _damaged(folder, place)
    return backup, places


def _digest(path: Path) -> str:
    """Return a file's SHA-256; empty: it cannot be read."""
    try:
        return digest_of_file(path)
    except OSError:
        return ""


def _open_to_agents(home: Home, now: float) -> list[Restored]:
    """Write that this coordinator was restored; say where its projects are."""
    held = {key.public for key in OnlineKeys(home).all()}
    store = Store(home.store_file)
    try:
        with store.write() as tx:
            return [
                Restored(found.name, found.epoch, found.version, _obstacle(found, held, now))
                for found in open_to_agents(tx, now)
            ]
    finally:
        store.close()


def open_to_agents(tx: Transaction, now: float) -> list[Project]:
    """Write that this coordinator was restored; return its projects.

    What belonged to processes that are gone is forgotten. All leases end: hosts may have reported
    these units since, and refuse to be given one twice. What they still compute is taken when it
    comes.
    """
    tx.claims.forget_all()
    for lease in tx.assignments.expired(math.inf, _MOST_LEASES):
        expire_lease(tx, now, lease, blame=False)
    projects = [tx.projects.find(name) for name in tx.projects.names()]
    for project in projects:
        # later than any time that agents have heard, also if this clock is behind
        tx.projects.set_restored(project.id, max(int(now), project.restored_at + 1))
        tx.events.add(project.id, now, "restored", version=project.version)
    return projects


def _obstacle(project: Project, held: set[str], now: float) -> str:
    delegation = project.metadata.delegation
    if delegation.online_key not in held:
        return (
            f"{project.name} delegates to an online key that is not among the keys: its researcher "
            f"has to run `pleb-project renew {project.name}`."
        )
    if not delegation.may_restore:
        return (
            f"{project.name} does not permit to go back: agents that have seen a later version "
            "follow only after its researcher has published with --new-epoch."
        )
    if delegation.expires_at <= now:
        return permission_warning(project.name, delegation.expires_at, now)
    return ""


def _check_keys(home: Home, keys: Path) -> None:
    try:
        read_secret(home.online_key_file)
        read_secret(home.secret_file)
    except PlebError as error:
        message = (
            f"The coordinator's keys are not in {keys}: give the folder with --keys (the folder "
            "`keys` beside the backups, or an earlier home)."
        )
        raise InputError(message) from error


def _is_sound(store_file: Path) -> bool:
    """Whether SQLite finds no fault in a store."""
    try:
        with contextlib.closing(sqlite3.connect(store_file)) as db:
            found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            return bool(found == "ok" and not db.execute("PRAGMA foreign_key_check").fetchone())
    except sqlite3.Error:
        return False


def _damaged(folder: Path, place: str) -> InputError:
    return InputError(f"{folder} is damaged: {place} is not what was saved. Choose another backup.")
