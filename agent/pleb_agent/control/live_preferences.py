"""The preferences as they are now: read once, written when the user changes them.

The file is versioned JSON; a table migrates older versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent.core.preferences import VERSION, Preferences, default_preferences
from pleb_agent.sensors.machine import read_machine
from pleb_agent.worker.job import WorkerSettings
from pleb_shared.errors import InputError, Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_system.durable import write_durably
from pleb_system.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "MIGRATIONS",
    "LivePreferences",
    "decode",
    "encode",
    "read_preferences",
    "worker_settings",
]


class LivePreferences:
    """Calls `on_change(before, after)` after each change.

    `adjust`: what the command line changes for this process alone; it is never written.
    """

    def __init__(
        self, path: Path, adjust: Callable[[Preferences], Preferences] = lambda stored: stored
    ) -> None:
        self._path = path
        self._adjust = adjust
        self._stored = read_preferences(path)
        self.current = adjust(self._stored)
        self.on_change: Callable[[Preferences, Preferences], None] | None = None

    def change(self, change: Callable[[Preferences], Preferences]) -> Preferences:
        """Apply `change` to what is stored; return the preferences that now apply.

        Raises:
            InputError: the change is not allowed; nothing has changed.
        """
        stored = change(self._stored)
        write_durably(self._path, encode(stored))
        before, self._stored, self.current = self.current, stored, self._adjust(stored)
        if self.on_change is not None:
            self.on_change(before, self.current)
        return self.current


def read_preferences(path: Path) -> Preferences:
    """Return the preferences in a file; the defaults for this machine if there is none.

    Raises:
        InputError: the file cannot be read as preferences.
    """
    try:
        data = read_regular(path, LIMITS.settings_bytes)
    except FileNotFoundError:
        machine = read_machine()
        return default_preferences(machine.cores, machine.fast_cores)
    except PermissionError as error:
        raise InputError(
            f"The preferences cannot be read ({error.strerror}): let this user read {path}."
        ) from error
    except OSError as error:
        raise _unreadable(error.strerror or str(error)) from error
    return decode(data)


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


def decode(data: bytes) -> Preferences:
    """Return the preferences of a file's bytes, migrated to this version.

    Raises:
        InputError: it cannot be read, or a newer agent wrote it.
    """
    try:
        raw = strict_json.parse(data, most_bytes=LIMITS.settings_bytes)
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
    except Refusal as error:
        raise _unreadable("it is empty" if not data.strip() else "it is no valid JSON") from error
    except KeyError as error:
        raise _unreadable("it does not say its version") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise _unreadable(str(error).rstrip(".")) from error


def _unreadable(reason: str) -> InputError:
    return InputError(
        f"The preferences cannot be read ({reason}): correct preferences.json, or delete it to use "
        "the defaults."
    )


def encode(preferences: Preferences) -> bytes:
    """Return the file's bytes."""
    return msgspec.json.format(msgspec.json.encode(preferences), indent=2) + b"\n"


def worker_settings(preferences: Preferences) -> WorkerSettings:
    """Return what a worker is started with: its cores, and its memory while the PC is idle."""
    return WorkerSettings(
        threads=preferences.threads,
        memory_bytes=preferences.memory_bytes_idle or read_machine().memory_bytes // 2,
        low_priority=preferences.nice,
    )
