"""The agent's folder: its paths, its lock and its log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.core.devices import is_device_name
from pleb_shared.errors import InputError
from pleb_system.lock import hold_lock
from pleb_system.regular_files import require_regular

if TYPE_CHECKING:
    from collections.abc import Collection
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


class Home:
    """Paths in one home."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys = path / "keys"
        """Private keys."""
        self.cache = path / "cache"
        """Blobs."""
        self.work = path / "work"
        """Current units: the only folder that the worker sees."""
        self.journal = path / "journal.sqlite"
        """The database of projects, assignments and history."""
        self.preferences = path / "preferences.json"
        """What the user allows."""
        self.rules = path / "rules.json"
        """The user's rules on signals."""
        self.control = path / "agentd.json"
        """Address and token of the running agentd."""
        self.runtimes = path / "runtimes"
        """torch, for an agent that is installed without it."""
        self.updates = path / "updates"
        """What is known of new releases, and the downloaded parts."""
        self.page_secret = self.keys / "page.secret"
        """Signs the page's cookies."""
        self.household = self.keys / "household.secret"
        """The key of the user's household; without the file this PC is in none."""
        self.logs = path / "logs"
        """Logs."""
        self.log = self.logs / "agentd.jsonl"
        """The log of agentd, JSON lines."""

    def work_on(self, device: str) -> Path:
        """Return the folder of current units of one more device, which its worker alone sees."""
        return self.path / f"work-{device}"

    def work_of_others(self, devices: Collection[str]) -> list[Path]:
        """Return the work folders of devices that were in this PC once and are not among these."""
        present = {self.work_on(name) for name in devices}
        found = [path for path in self.path.glob("work-*") if path not in present]
        return [path for path in found if is_device_name(path.name.partition("-")[2])]

    def prepare(self) -> None:
        """Create the folder, readable by this user only.

        Raises:
            InputError: it cannot be made.
        """
        for folder in (self.path, self.logs, self.work, self.keys, self.cache):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except FileExistsError as error:
                raise InputError(
                    f"{folder} is no folder: move what is in its place, or give another folder "
                    "with --home."
                ) from error
            except OSError as error:
                raise InputError(
                    f"The folder {folder} cannot be created ({error.strerror}); "
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

        require_regular(self.log)  # a pipe there would hold us up for ever
        start_log(
            self.log,
            loggers=_LOGGERS,
            most_bytes=_LOG_BYTES,
            kept=_KEPT_LOGS,
            terminal=terminal,
            debug=debug,
        )
