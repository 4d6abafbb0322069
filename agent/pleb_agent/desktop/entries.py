"""Files and settings that let the session start the agent, show it in menus, and open links.

`autostart on` makes all of them, `autostart off` removes all of them: nothing else of ours lies
outside of the agent's home. One class for each system, chosen by `session_entries`.
"""

from __future__ import annotations

import plistlib
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import platformdirs

from pleb_agent.desktop.linux_entries import SystemdEntries, XdgEntries
from pleb_agent.program.command import cli_command, stable_program
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MacEntries", "Registry", "SessionEntries", "WindowsEntries", "session_entries"]


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
        return WindowsEntries(UserRegistry(), command, opener)
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


LABEL: Final = "org.pleb-cluster.agent"


@dataclass(frozen=True)
class MacEntries:
    """A LaunchAgent in `folder`; links are the app bundle's (`CFBundleURLTypes`).

    Source: launchd.plist(5).
    """

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


RUN: Final = r"Software\Microsoft\Windows\CurrentVersion\Run"
SCHEMES: Final = (r"Software\Classes\pleb", r"Software\Classes\pleb+http")
NAME: Final = "Pleb-Cluster"


class Registry(Protocol):
    """The current user's part of the registry, as far as it is used. May raise `OSError`."""

    def get(self, key: str, name: str) -> str | None:
        """Return a text value, or None if it is not there."""

    def set(self, key: str, name: str, value: str) -> None:
        """Write a text value, making the key."""

    def delete_value(self, key: str, name: str) -> None:
        """Delete a value that may be missing."""

    def delete_tree(self, key: str) -> None:
        """Delete a key that may be missing, with all below it."""


@dataclass(frozen=True)
class WindowsEntries:
    r"""The user's Run key, and `HKCU\Software\Classes` for links.

    `command` starts the agent, `opener` opens its page, with a link as one more argument.
    """

    registry: Registry
    command: Sequence[str]
    opener: Sequence[str]

    def state(self) -> tuple[bool, str]:
        """Return whether Windows starts the agent."""
        if self.registry.get(RUN, NAME) is None:
            return False, "The agent does not start when you sign in."
        return True, "The agent starts when you sign in."

    def make(self) -> None:
        """Write the values."""
        self.registry.set(RUN, NAME, subprocess.list2cmdline(self.command))
        opener = subprocess.list2cmdline(self.opener) + ' "%1"'
        for scheme in SCHEMES:
            self.registry.set(scheme, "", "URL:Pleb-Cluster")
            self.registry.set(scheme, "URL Protocol", "")
            self.registry.set(scheme + r"\shell\open\command", "", opener)

    def remove(self) -> None:
        """Delete the values."""
        self.registry.delete_value(RUN, NAME)
        for scheme in SCHEMES:
            self.registry.delete_tree(scheme)


if sys.platform == "win32":
    import winreg

    class UserRegistry:
        """The current user's registry through `winreg`."""

        def get(self, key: str, name: str) -> str | None:
            """Return a text value, or None if it is not there."""
            try:
                with winreg.OpenKey(winreg.HKEY_CURRENT_USER, key) as opened:
                    return str(winreg.QueryValueEx(opened, name)[0])
            except FileNotFoundError:
                return None

        def set(self, key: str, name: str, value: str) -> None:
            """Write a text value, making the key."""
            with winreg.CreateKey(winreg.HKEY_CURRENT_USER, key) as opened:
                winreg.SetValueEx(opened, name, 0, winreg.REG_SZ, value)

        def delete_value(self, key: str, name: str) -> None:
            """Delete a value that may be missing."""
            with (
                suppress(FileNotFoundError),
                winreg.OpenKey(winreg.HKEY_CURRENT_USER, key, 0, winreg.KEY_SET_VALUE) as opened,
            ):
                winreg.DeleteValue(opened, name)

        def delete_tree(self, key: str) -> None:
            """Delete a key that may be missing, with all below it."""
            with suppress(FileNotFoundError):
                with winreg.OpenKey(winreg.HKEY_CURRENT_USER, key) as opened:
                    below = [
                        winreg.EnumKey(opened, number)
                        for number in range(winreg.QueryInfoKey(opened)[0])
                    ]
                for name in below:
                    self.delete_tree(key + "\\" + name)
                winreg.DeleteKey(winreg.HKEY_CURRENT_USER, key)
