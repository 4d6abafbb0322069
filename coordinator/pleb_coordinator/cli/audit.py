"""Who did what: every command that changes something is written to the store once it is done."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_coordinator.home.config import store_place
from pleb_coordinator.store.transaction import Store
from pleb_shared.protocol.ids import digest_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from pleb_coordinator.home.layout import Home

__all__ = ["CHANGING", "note"]

CHANGING: Final = frozenset(
    {
        ("backup", None),
        ("compact", None),
        ("host", "ban"),
        ("host", "delete"),
        ("host", "team"),
        ("host", "unban"),
        ("init", None),
        ("invite", "new"),
        ("invite", "revoke"),
        ("key", "delete"),
        ("key", "rotate"),
        ("migrate", None),
        ("model", "rollback"),
        ("project", "archive"),
        ("project", "delete"),
        ("project", "pause"),
        ("project", "resume"),
        ("restore", None),
        ("serve", None),
        ("unit", "cancel"),
        ("work", None),
    }
)
"""Commands that change something, with their action."""
_FRAME: Final = frozenset({"home", "json", "debug", "command", "action", "project", "store", "to"})
"""Options that are not written down: what is said elsewhere, and an address with a password."""
_TOKEN_DIGITS: Final = 12
"""Of the hash by which `invite list` names an invite."""


def note(home: Home, options: argparse.Namespace, at: float) -> None:
    """Write down that a command was done, and by whom.

    Raises:
        InputError: there is no store, or another release's.
        Refusal: the disk is full.
    """
    words = [options.command, *([options.action] if options.action else [])]
    store = Store(store_place(home))
    try:
        with store.write() as tx:
            project = getattr(options, "project", None) or ""
            tx.audit.add(at, _who(), " ".join(words), project, _arguments(vars(options)))
    finally:
        store.close()


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for; an invite's token, which is a secret, by its number."""
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if name not in _FRAME and value not in (None, False, "", [])
    }
    token = given.get("invite")
    if isinstance(token, str) and len(token) > _TOKEN_DIGITS:
        given["invite"] = digest_of(token.encode())[:_TOKEN_DIGITS]
    return given


def _who() -> str:
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
