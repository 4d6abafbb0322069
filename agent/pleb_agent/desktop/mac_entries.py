"""macOS: a LaunchAgent. Links are the app bundle's (`CFBundleURLTypes`)."""

from __future__ import annotations

import plistlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["MacEntries"]

LABEL: Final = "org.pleb-cluster.agent"


@dataclass(frozen=True)
class MacEntries:
    """`folder`: ~/Library/LaunchAgents. Source: launchd.plist(5)."""

    folder: Path
    command: Sequence[str]
    home: Path

    @property
    def plist(self) -> Path:
        """The agent's property list."""
        return self.folder / f"{LABEL}.plist"

    def state(self) -> tuple[bool, str]:
        """Return whether launchd starts the agent."""
        if self.plist.exists():
            return True, f"The agent starts when you log in ({self.plist})."
        return False, "The agent does not start when you log in."

    def make(self) -> None:
        """Write the list; launchd reads it at the next log-in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        value = {
            "Label": LABEL,
            "ProgramArguments": list(self.command),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ProcessType": "Background",
            "LimitLoadToSessionType": "Aqua",
            "ExitTimeOut": 30,
        }
        write_durably(self.plist, plistlib.dumps(value))

    def remove(self) -> None:
        """Delete the list."""
        self.plist.unlink(missing_ok=True)
