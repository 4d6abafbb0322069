"""The user's rules on signals: read when they are first needed, written when the user changes them.

rules.json      only this user can read it: addresses may be private
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pleb_agent.core.signals import NO_RULES, SignalRules
from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS
from pleb_system.durable import write_durably
from pleb_system.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LiveRules", "read_rules", "rules_of"]


class LiveRules:
    """Calls `on_change` after each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.current = read_rules(path)
        self.on_change: Callable[[], None] = lambda: None

    def replace(self, rules: SignalRules) -> None:
        """Keep other rules from now on. Raises `OSError`: they cannot be written."""
        write_durably(self._path, _encode(rules), private=True)
        self.current = rules
        self.on_change()


def read_rules(path: Path) -> SignalRules:
    """Return the rules in a file; none if there is no such file.

    Raises:
        InputError: the file cannot be read as rules.
    """
    try:
        data = read_regular(path, LIMITS.settings_bytes)
    except FileNotFoundError:
        return NO_RULES
    except OSError as error:
        raise _unreadable(error.strerror or str(error)) from error
    try:
        return msgspec.json.decode(data, type=SignalRules)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(str(error)) from error


def rules_of(value: object) -> SignalRules:
    """Return rules as JSON has them.

    Raises:
        InputError: they are not understood; nothing is changed.
    """
    try:
        return msgspec.convert(value, SignalRules)
    except (ValueError, TypeError) as error:
        sentence = str(error).partition(" - at `")[0].rstrip(".")
        raise InputError(f"The rules cannot be that: {sentence}.") from error


def _encode(rules: SignalRules) -> bytes:
    return msgspec.json.format(msgspec.json.encode(rules), indent=2) + b"\n"


def _unreadable(reason: str) -> InputError:
    return InputError(
        f"The rules cannot be read ({reason.rstrip('.')}): correct rules.json, or delete it to "
        "work without rules."
    )
