"""The file of preferences: its versions, and what is said when it cannot be read."""

from __future__ import annotations

import json

import pytest

from pleb_agent.control.live_preferences import MIGRATIONS, decode, encode
from pleb_agent.core.preferences import (
    VERSION,
    Notifications,
    Preferences,
    default_preferences,
)
from pleb_shared.errors import InputError


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (16, 8)])
def test_half_the_cores_are_the_default(cores, threads):
    assert default_preferences(cores).threads == threads


def test_the_defaults_never_disturb():
    preferences = default_preferences(8)
    assert not preferences.on_battery
    assert not preferences.while_in_use
    assert not preferences.use_gpu
    assert not preferences.on_metered
    assert not preferences.keep_awake
    assert preferences.idle_minutes == 3
    assert preferences.pause_on_fullscreen
    assert preferences.nice
    assert preferences.notifications == Notifications(first_accepted=True)


def test_preferences_survive_the_file():
    preferences = Preferences(
        threads=3,
        memory_bytes_idle=2**30,
        nice=False,
        hours="mon-fri 20:00-08:00",
        pause_programs=["steam"],
        shares={"words": 200},
        notifications=Notifications(problem=True),
    )
    assert decode(encode(preferences)) == preferences


def test_the_file_is_for_people_too():
    assert b'\n  "idle_minutes": 3.0,\n' in encode(Preferences())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"version": 1}, Preferences()),
        (
            {"version": 1, "threads": 2, "cache_mib": 100, "memory_bytes": 2**30, "nice": False},
            Preferences(
                threads=2,
                cache_bytes=100 * 2**20,
                memory_bytes_in_use=2**30,
                memory_bytes_idle=2**30,
                nice=False,
            ),
        ),
        ({"version": 2, "memory_bytes": None}, Preferences()),
        (
            {"version": 2, "threads": 4, "memory_bytes": 2**31, "keep_free_bytes": 0},
            Preferences(
                threads=4,
                memory_bytes_in_use=2**31,
                memory_bytes_idle=2**31,
                keep_free_bytes=0,
            ),
        ),
        ({"version": 3, "threads": 5}, Preferences(threads=5)),
    ],
)
def test_older_files_are_migrated(old, new):
    assert decode(json.dumps(old).encode()) == new


def test_there_is_a_migration_from_every_version():
    assert set(MIGRATIONS) == set(range(1, VERSION))
    for version, migrate in MIGRATIONS.items():
        assert migrate({"version": version})["version"] == version + 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"version": "3"}',
        b'{"version": 0}',
        b'{"version": 2, "threads": 0}',
        b'{"version": 2, "treads": 1}',
        b'{"version": 3, "hours": "mon"}',
        b'{"version": 3, "network_hours": "mon"}',
        b'{"version": 3, "idle_minutes": NaN}',
        b'{"version": 3, "notifications": {"all": true}}',
        b'{"version": 1, "cache_mib": "many"}',
    ],
)
def test_wrong_preferences_say_what_to_do(data):
    with pytest.raises(InputError, match=r"correct preferences\.json, or delete it"):
        decode(data)


def test_a_newer_agents_file_is_refused():
    with pytest.raises(InputError, match=r"newer agent \(version 4, this one knows 3\)"):
        decode(b'{"version": 4, "telepathy": true}')


@pytest.mark.parametrize(
    "data",
    [
        b'{"version": 3, "threads": ' + b"9" * 5000 + b"}",
        b'{"version": 1, "cache_mib": ' + b"9" * 300 + b"}",
        b'{"version": 1, "cache_mib": 1e308}',
        b'{"version": 1e999}',
        b'{"version": 3, "threads": NaN}',
        b'{"version": 3, "shares": ' + b"[" * 90_000,
        b'{"version": [1]}',
        b"[" * 300_000,
        b"\xff",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_no_file_ends_in_a_traceback(data):
    with pytest.raises(InputError, match=r"preferences\.json"):
        decode(data)
