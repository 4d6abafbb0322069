"""What the user allows. A versioned JSON file; older versions are migrated by a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from pleb_agent.core.schedule import parse_hours
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MIGRATIONS", "VERSION", "Preferences", "default_preferences", "read", "write"]

VERSION: Final = 3

Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]
Bytes = Annotated[int, msgspec.Meta(ge=2**20, le=2**44)]
Rate = Annotated[int, msgspec.Meta(ge=1024, le=2**40)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Notifications(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which events may show a notification."""

    first_accepted: bool = True
    problem: bool = False
    update: bool = False
    """A new release of the agent."""


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The user's limits.

    Raises:
        ValueError: hours that are not understood (msgspec turns it into its own error).
    """

    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)] = VERSION

    # -- when ---------------------------------------------------------------------------
    on_battery: bool = False
    battery_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 60
    """Where work on battery is allowed: down to this charge."""
    while_in_use: bool = False
    idle_minutes: Annotated[float, msgspec.Meta(ge=0, le=24 * 60)] = 3.0
    """The PC counts as in use until so long after the last input."""
    hours: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    """When work is allowed, as `mon-fri 20:00-08:00; sat,sun 00:00-24:00`; empty: always."""
    cpu_others_percent: Percent | None = 60
    """Hold still while other programs use more of the processors; None: give way, go on."""
    gpu_others_percent: Percent | None = 25
    """The same for the graphics processors, where the worker uses one."""
    pause_on_fullscreen: bool = True
    pause_programs: Annotated[list[Name], msgspec.Meta(max_length=200)] = []
    """Names of programs while which run nothing is computed."""
    hottest_celsius: Annotated[int, msgspec.Meta(ge=30, le=120)] | None = 90
    keep_awake: bool = False
    """Keep the machine from falling asleep while a unit is computed."""

    # -- how much -----------------------------------------------------------------------
    threads: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    """Cores for the worker."""
    cpu_percent_in_use: Percent = 50
    """Share of those cores' time while somebody uses the PC."""
    cpu_percent_idle: Percent = 100
    use_gpu: bool = False
    """The worker computes on the processor alone so far: for now this lets GPUs be watched."""
    gpu_percent_in_use: Percent = 20
    gpu_percent_idle: Percent = 100
    memory_bytes_in_use: Bytes | None = None
    """Ceiling of the worker's memory while somebody uses the PC; None: a quarter of it all."""
    memory_bytes_idle: Bytes | None = None
    """The same while nobody does; None: half of it all."""
    cache_bytes: Bytes = 10 * 2**30
    keep_free_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**44)] = 2**30
    """Disk room that is left alone."""
    nice: bool = True
    """Give way to every other program."""

    # -- network ------------------------------------------------------------------------
    network_hours: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    """When the coordinators may be asked; written as `hours`."""
    on_metered: bool = False
    download_bytes_per_second: Rate | None = None
    upload_bytes_per_second: Rate | None = None
    download_bytes_per_day: Bytes | None = None
    upload_bytes_per_day: Bytes | None = None
    proxy: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """Empty: what the system says; `none`: no proxy; else its address."""

    # -- projects and faces -------------------------------------------------------------
    shares: dict[Name, Annotated[int, msgspec.Meta(ge=1, le=1000)]] = {}
    """Weights of projects, by their names; 100 where a project is not named."""
    notifications: Notifications = Notifications()
    watts_per_thread: Annotated[float, msgspec.Meta(ge=0.1, le=500)] = 8.0
    """What a busy core takes, for the estimates of energy."""
    language: Annotated[str, msgspec.Meta(max_length=35)] = ""
    """Of the page (`en`, `de`); empty: the browser's."""

    def __post_init__(self) -> None:
        parse_hours(self.hours)
        parse_hours(self.network_hours)


def default_preferences(cores: int) -> Preferences:
    """Return what holds until the user says otherwise: half the cores, at least one."""
    return Preferences(threads=max(1, cores // 2))


def _first_to_second(old: dict[str, Any]) -> dict[str, Any]:
    """Version 1 counted the cache in whole MiB and had no room to leave alone."""
    new = {key: value for key, value in old.items() if key != "cache_mib"}
    if "cache_mib" in old:
        new["cache_bytes"] = int(old["cache_mib"]) * 2**20
    return new | {"version": 2}


def _second_to_third(old: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had one ceiling of memory, whether somebody used the PC or not."""
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
    """Return the preferences that a file's bytes spell, migrated to this version.

    Raises:
        InputError: not such a file, or one of a newer agent.
    """
    try:
        raw = json.loads(data)
        version = raw["version"]
        if isinstance(version, int) and version > VERSION:
            raise _newer(version)
        while version in MIGRATIONS:
            raw = MIGRATIONS[version](raw)
            version = raw["version"]
        return msgspec.convert(raw, Preferences)
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise InputError(
            f"The preferences cannot be read ({error}); correct preferences.json or delete it "
            "to start from the defaults."
        ) from error


def _newer(version: int) -> InputError:
    return InputError(
        f"The preferences were written by a newer agent (version {version}, known is {VERSION}); "
        "update this agent, or delete preferences.json to start from the defaults."
    )


def write(preferences: Preferences) -> bytes:
    """Return the file's bytes."""
    return msgspec.json.format(msgspec.json.encode(preferences), indent=2) + b"\n"
