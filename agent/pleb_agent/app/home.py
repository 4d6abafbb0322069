"""The agent's folder: its paths, its lock and its log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError
from pleb_system.lock import hold_lock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["Home", "default_home"]

_LOG_BYTES: Final = 2 * 2**20
_KEPT_LOGS: Final = 4
_LOGGERS: Final = ("pleb", "asyncio", "uvicorn.error")
"""Ours first. The libraries report our defects; without a handler they would write to standard
error, where nothing bounds what a session keeps of it."""


def default_home() -> Path:
    """Return where the agent's data is without --home."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pleb-cluster", appauthor=False)) / "agent"


@dataclass(frozen=True)
class Home:
    """Paths in one home."""

    path: Path

    def prepare(self) -> None:
        """Create the folder, readable by this user only.

        Raises:
            InputError: it cannot be made.
        """
        try:
            for folder in (self.path, self.logs, self.work, self.keys):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InputError(
                f"The folder {self.path} cannot be created ({error.strerror}); "
                "give another one with --home."
            ) from error

    def hold(self) -> AbstractContextManager[None]:
        """Return the block that has this home for itself.

        Raises:
            HomeInUseError: another process uses it; raised where the block begins.
        """
        remedy = "stop it with `pleb-agent stop`"
        return hold_lock(self.path / "agentd.lock", holder="agent", remedy=remedy)

    def start_log(self, *, terminal: bool, debug: bool) -> None:
        """Send this process's log to `log`, and to the terminal if there is one."""
        from pleb_system.logs import start_log

        start_log(
            self.log,
            loggers=_LOGGERS,
            most_bytes=_LOG_BYTES,
            kept=_KEPT_LOGS,
            terminal=terminal,
            debug=debug,
        )

    @property
    def keys(self) -> Path:
        """Private keys."""
        return self.path / "keys"

    @property
    def cache(self) -> Path:
        """Blobs."""
        return self.path / "cache"

    @property
    def work(self) -> Path:
        """Current units: the only folder that the worker sees."""
        return self.path / "work"

    @property
    def journal(self) -> Path:
        """The database of projects, assignments and history."""
        return self.path / "journal.sqlite"

    @property
    def preferences(self) -> Path:
        """What the user allows."""
        return self.path / "preferences.json"

    @property
    def control(self) -> Path:
        """Address and token of the running agentd."""
        return self.path / "agentd.json"

    @property
    def runtimes(self) -> Path:
        """torch, for an agent that is installed without it."""
        return self.path / "runtimes"

    @property
    def updates(self) -> Path:
        """What is known of new releases, and the downloaded parts."""
        return self.path / "updates"

    @property
    def page_secret(self) -> Path:
        """Signs the page's cookies."""
        return self.keys / "page.secret"

    @property
    def logs(self) -> Path:
        """Logs."""
        return self.path / "logs"

    @property
    def log(self) -> Path:
        """The log of agentd, JSON lines."""
        return self.logs / "agentd.jsonl"
