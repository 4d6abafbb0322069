"""The paths of the coordinator's files, its lock and its logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import platformdirs

from pleb_system.lock import hold_lock
from pleb_system.logs import start_log

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["Home", "LastBackup", "default_home"]

_KEPT_LOGS: Final = 5


def default_home() -> Path:
    """Return the data directory of this user's coordinator."""
    return Path(platformdirs.user_data_dir("pleb-coordinator", appauthor=False))


class LastBackup(msgspec.Struct, frozen=True):
    """What the home remembers of its last backup."""

    at: float
    folder: str
    every_seconds: float
    """How often they are made; 0: now and then, by hand or by the system's timer."""
    keys: str = ""
    """Where the keys were saved; empty: beside the backups."""


class Home:
    """One coordinator's data directory.

    A copy of a running one is no backup, since its store changes meanwhile: see `backups`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "coordinator.toml"  # a person may edit it
        self.store_file = path / "store.sqlite"
        self.blobs = path / "blobs"  # content-addressed files that anyone may read
        self.deltas = path / "deltas"  # encoded deltas of hosts, not readable over the network
        self.uploads = path / "uploads"  # unfinished ones
        keys = path / "keys"
        self.online_key_file = keys / "online.key"  # its 32 secret bytes, mode 600
        self.secret_file = path / "secret"  # 32 bytes that audits are drawn from, mode 600
        self.logs = path / "logs"  # one rotated JSON log for each process
        self.tls = path / "tls"  # the self-signed certificate and its key, if in use
        self.downloads = path / "downloads"  # packages of the agent for volunteers
        self.models = path / "models"  # whole versions that somebody took home
        self.agent = path / "agent"  # the home of the agent that `serve --with-agent` runs
        self.listening_file = path / "listening.json"  # where a running `serve` listens
        self.clock_file = path / "clock.json"  # what hosts' requests say of this machine's clock
        self.mirrors_file = path / "mirrors.json"  # what the last checks of mirrors found
        self.last_backup_file = path / "backup.json"  # when the last backup was made, and where
        self.logins = path / "logins"  # keys with which this user is an admin elsewhere
        self.folders = (path, self.blobs, self.deltas, self.uploads, keys, self.logs, self.tls)
        """Folders that must exist before a process starts."""

    @property
    def exists(self) -> bool:
        """Whether `init` or `serve` has set it up."""
        return self.config_file.exists() and self.online_key_file.exists()

    def hold(self) -> AbstractContextManager[None]:
        """Return the block that serves this home; one process may at a time.

        Raises:
            HomeInUseError: another process serves it; raised where the block begins.
        """
        holder = "`pleb-coordinator serve`"
        return hold_lock(self.path / "serve.lock", holder=holder, remedy="stop it")

    def start_log(self, process: str, *, most_bytes: int, debug: bool) -> None:
        """Send all that this process logs to its file, and to the standard error with `debug`."""
        self.logs.mkdir(parents=True, exist_ok=True)
        start_log(
            self.logs / f"{process}.jsonl",
            loggers=(None,),
            most_bytes=most_bytes,
            kept=_KEPT_LOGS,
            terminal=debug,
            debug=debug,
        )
