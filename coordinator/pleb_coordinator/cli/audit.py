"""Who did what: commands of this machine alone that change something, written to the store.

`admin.table` writes down the others.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_coordinator.admin.access import opened

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from pleb_coordinator.home.layout import Home

__all__ = ["CHANGING", "note", "who"]

CHANGING: Final = frozenset({"backup", "init", "migrate", "restore", "serve", "work"})
_FRAME: Final = frozenset({"home", "json", "debug", "command", "action", "store", "to"})
"""Options that are not written down: what is said elsewhere, and an address with a password."""


def note(
    home: Home,
    options: argparse.Namespace,
    at: float,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write down that a command was done, and by whom; `progress` as `open_store`.

    Raises:
        InputError: there is no store, or another release's.
        Refusal: the disk is full.
    """
    with opened(home, progress) as store, store.write() as tx:
        tx.audit.add(at, who(), options.command, "", _arguments(vars(options)))


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if name not in _FRAME and value not in (None, False, "", [])
    }


def who() -> str:
    """Return the account of this machine that runs the command, with the one that used sudo."""
    try:
        import pwd

        name = pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # no such system, or an account without a name
        try:
            name = getpass.getuser()
        except (OSError, KeyError, ImportError):
            name = "unknown"
    behind = os.environ.get("SUDO_USER", "")
    return f"{name} ({behind})"[:100] if behind and behind != name else name[:100]
