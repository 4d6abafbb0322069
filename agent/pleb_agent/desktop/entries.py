"""Files and settings that let the session start the agent, show it in menus, and open links.

`autostart on` makes all of them, `autostart off` removes all of them: nothing else of ours lies
outside of the agent's home. One class for each system, chosen by `session_entries`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import platformdirs

from pleb_agent.desktop.linux_entries import SystemdEntries, XdgEntries
from pleb_agent.desktop.mac_entries import MacEntries
from pleb_agent.desktop.windows_entries import WindowsEntries
from pleb_agent.program.command import cli_command, stable_program

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SessionEntries", "session_entries"]


class SessionEntries(Protocol):
    """The agent's entries in the user's session. Each may raise `OSError`."""

    def state(self) -> tuple[bool, str]:
        """Return whether they are there, and a sentence that says how."""

    def make(self) -> None:
        """Make them; doing it again is harmless."""

    def remove(self) -> None:
        """Remove them; doing it again is harmless."""


def session_entries(
    home: Path, environment: Mapping[str, str], *, headless: bool
) -> SessionEntries:
    """Return the entries of the system that this runs on.

    `headless`: start with the machine, without a desktop (Linux: a systemd user unit).
    """
    command = cli_command("start", "--if-needed", "--home", str(home))
    if sys.platform == "win32":
        opener = cli_command("open", "--home", str(home))
        return WindowsEntries.of_this_user(command, opener)
    if sys.platform == "darwin":
        return MacEntries(Path.home() / "Library" / "LaunchAgents", command, home)
    if headless:
        folder = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return SystemdEntries(folder / "systemd" / "user", [*command, "--headless"])
    return XdgEntries(
        config=Path(platformdirs.user_config_dir()),
        data=Path(platformdirs.user_data_dir()),
        program=stable_program(),
        home=home,
    )
