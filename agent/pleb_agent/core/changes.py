"""Changing preferences by name: from the command line's texts and from the page's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_agent.core.preferences import Preferences

__all__ = ["PreferenceError", "changed"]


class PreferenceError(InputError):
    """A change that is refused. `name`: the preference, as it was given."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


def changed(preferences: Preferences, changes: Mapping[str, Any]) -> Preferences:
    """Return the preferences with all changes, or raise and change none.

    A value is one of the preference's own type, or a text as a person types it: `4GB`, `on`,
    `none`, `500KB/s`. Parts are named with a dot: `notifications.problem`, `shares.words`; a list
    is given as a whole or with signs: `+steam`, `-steam`.

    Raises:
        PreferenceError: an unknown name, or a value out of its range; names what is allowed.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(preferences) | dict(changes), type(preferences))
    except msgspec.ValidationError as error:
        raise PreferenceError(f"That cannot be: {error}.", ", ".join(changes)) from error
