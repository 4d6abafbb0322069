"""A lock file: one holder at a time, named to whoever comes second, free when the holder dies."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pleb_system.lock import HomeInUseError, hold_lock, try_lock

HOLDER = """
import sys
from pathlib import Path
from pleb_system.lock import hold_lock
with hold_lock(Path(sys.argv[1]), holder="agent", remedy="stop it"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(path):
    return hold_lock(path, holder="agent", remedy="stop it")


def test_a_second_process_learns_who_holds_the_lock_and_gets_it_after_a_kill(tmp_path):
    path = tmp_path / "agentd.lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(HomeInUseError, match=f"process {other.pid}") as caught, hold(path):
            raise AssertionError
        assert str(tmp_path) in str(caught.value)
        other.kill()
    with hold(path):
        assert try_lock(path) is None


def test_the_lock_is_free_after_the_block(tmp_path):
    with hold(tmp_path / "lock"):
        pass
    with hold(tmp_path / "lock"):
        pass


def test_a_folder_that_is_missing_is_not_a_lock_that_is_held(tmp_path):
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "missing" / "lock")
