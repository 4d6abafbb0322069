"""The paths of the coordinator's files, its lock and its logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from pleb_system.lock import hold_lock
from pleb_system.logs import start_log

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["Home", "default_home"]

_KEPT_LOGS: Final = 5


def default_home() -> Path:
    """Return the data directory of this user's coordinator."""
    return Path(platformdirs.user_data_dir("pleb-coordinator", appauthor=False))


@dataclass(frozen=True)
class Home:
    """One coordinator's data directory; a backup is a copy of all of it."""

    path: Path

    @property
    def config_file(self) -> Path:
        """`coordinator.toml`, which a person may edit."""
        return self.path / "coordinator.toml"

    @property
    def store_file(self) -> Path:
        """The SQLite store."""
        return self.path / "store.sqlite"

    @property
    def blobs(self) -> Path:
        """Content-addressed files that anyone may read."""
        return self.path / "blobs"

    @property
    def deltas(self) -> Path:
        """Encoded deltas of hosts, which cannot be read over the network."""
        return self.path / "deltas"

    @property
    def uploads(self) -> Path:
        """Unfinished uploads."""
        return self.path / "uploads"

    @property
    def online_key_file(self) -> Path:
        """The 32 secret bytes of the online key, mode 600."""
        return self.path / "keys" / "online.key"

    @property
    def secret_file(self) -> Path:
        """32 bytes from which audits and sketch seeds are derived, mode 600."""
        return self.path / "secret"

    @property
    def logs(self) -> Path:
        """One rotated JSON log for each process."""
        return self.path / "logs"

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

    @property
    def tls(self) -> Path:
        """The self-signed certificate and its key, where one is in use."""
        return self.path / "tls"

    @property
    def agent(self) -> Path:
        """The home of the trusted agent that `serve --with-agent` runs."""
        return self.path / "agent"

    @property
    def listening_file(self) -> Path:
        """Where a running `serve` listens, for the other commands."""
        return self.path / "listening.json"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that must exist before a process starts."""
        keys = self.online_key_file.parent
        return (self.path, self.blobs, self.deltas, self.uploads, keys, self.logs, self.tls)

    @property
    def exists(self) -> bool:
        """Whether `init` or `serve` has set it up."""
        return self.config_file.exists() and self.online_key_file.exists()
