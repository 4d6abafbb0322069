"""The file of preferences: versioned JSON. A table migrates older versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.core.preferences import VERSION, Preferences
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MIGRATIONS", "read", "write"]


def _first_to_second(old: dict[str, Any]) -> dict[str, Any]:
    """Version 1 counted the cache in whole MiB."""
    new = {key: value for key, value in old.items() if key != "cache_mib"}
    if "cache_mib" in old:
        new["cache_bytes"] = int(old["cache_mib"]) * 2**20
    return new | {"version": 2}


def _second_to_third(old: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had one memory limit, whether the PC was in use or not."""
    new = {key: value for key, value in old.items() if key != "memory_bytes"}
    if old.get("memory_bytes") is not None:
        new |= dict.fromkeys(("memory_bytes_in_use", "memory_bytes_idle"), old["memory_bytes"])
    return new | {"version": 3}


MIGRATIONS: Final[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    1: _first_to_second,
    2: _second_to_third,
}
"""From a version to the next one."""


def read(data: bytes) -> Preferences:
    """Return the preferences of a file's bytes, migrated to this version.

    Raises:
        InputError: it cannot be read, or a newer agent wrote it.
    """
    try:
        raw = json.loads(data)
        version = raw["version"]
        if isinstance(version, int) and version > VERSION:
            raise InputError(
                f"The preferences were written by a newer agent (version {version}, this one knows "
                f"{VERSION}): update this agent, or delete preferences.json to use the defaults."
            )
        while version in MIGRATIONS:
            raw = MIGRATIONS[version](raw)
            version = raw["version"]
        return msgspec.convert(raw, Preferences)
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise InputError(
            f"The preferences cannot be read ({error}): correct preferences.json, or delete it to "
            "use the defaults."
        ) from error


def write(preferences: Preferences) -> bytes:
    """Return the file's bytes."""
    return msgspec.json.format(msgspec.json.encode(preferences), indent=2) + b"\n"
