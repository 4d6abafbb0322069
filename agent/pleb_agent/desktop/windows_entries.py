r"""Windows: the user's Run key, and `HKCU\Software\Classes` for links."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Registry", "WindowsEntries"]

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
    """`command` starts the agent, `opener` opens its page, with a link as one more argument."""

    registry: Registry
    command: Sequence[str]
    opener: Sequence[str]

    @classmethod
    def of_this_user(cls, command: Sequence[str], opener: Sequence[str]) -> WindowsEntries:
        """Return the entries of the user who runs this."""
        return cls(_user_registry(), command, opener)

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


def _user_registry() -> Registry:
    if sys.platform == "win32":
        from pleb_agent.desktop.windows_registry import UserRegistry

        return UserRegistry()
    raise OSError("only Windows has a registry")
