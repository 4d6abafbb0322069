"""What the user allows. A versioned JSON file; older versions are migrated by a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MIGRATIONS", "VERSION", "Preferences", "default_preferences", "read", "write"]

VERSION: Final = 2


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The user's limits."""

    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)] = VERSION
    threads: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    memory_bytes: Annotated[int, msgspec.Meta(ge=2**20)] | None = None
    """Ceiling of the worker's memory; None: what the project's limit says."""
    cache_bytes: Annotated[int, msgspec.Meta(ge=2**20, le=2**44)] = 10 * 2**30
    keep_free_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**44)] = 2**30
    """Disk room that is left alone."""
    nice: bool = True
    """Give way to every other program."""


def default_preferences(cores: int) -> Preferences:
    """Return what holds until the user says otherwise: half the cores, at least one."""
    return Preferences(threads=max(1, cores // 2))


def _first_to_second(old: dict[str, Any]) -> dict[str, Any]:
    """Version 1 counted the cache in whole MiB and had no room to leave alone."""
    new = {key: value for key, value in old.items() if key != "cache_mib"}
    if "cache_mib" in old:
        new["cache_bytes"] = int(old["cache_mib"]) * 2**20
    return new | {"version": 2}


MIGRATIONS: Final[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {1: _first_to_second}
"""From a version to the next one."""


def read(data: bytes) -> Preferences:
    """Return the preferences that a file's bytes spell, migrated to this version.

    Raises:
        InputError: not such a file, or one of a newer agent.
    """
    try:
        raw = json.loads(data)
        version = raw["version"]
        while version in MIGRATIONS:
            raw = MIGRATIONS[version](raw)
            version = raw["version"]
        return msgspec.convert(raw, Preferences)
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise InputError(
            f"The preferences cannot be read ({error}); correct preferences.json or delete it "
            "to start from the defaults."
        ) from error


def write(preferences: Preferences) -> bytes:
    """Return the file's bytes."""
    return msgspec.json.format(msgspec.json.encode(preferences), indent=2) + b"\n"
