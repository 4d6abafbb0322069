"""A unit's directories are removed, but for what a worker could still fill unseen."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from pleb_agent.loop.files import UnitDirectories

if TYPE_CHECKING:
    from pathlib import Path


def made(project: Path, name: str) -> UnitDirectories:
    unit = UnitDirectories(project, name)
    for directory in unit.both:
        directory.mkdir(parents=True)
    (unit.both[0] / "shard-0.safetensors").write_bytes(b"data")
    (unit.both[1] / "delta.bin").write_bytes(b"delta")
    return unit


def test_an_output_that_is_still_open_stays_empty_until_it_is_closed(tmp_path: Path) -> None:
    held, other = made(tmp_path, "1"), made(tmp_path, "2")
    delta = held.both[1] / "delta.bin"
    with delta.open("r+b"):
        held.remove()
        assert not held.both[0].exists()
        assert delta.stat().st_size == 0
    other.remove()
    assert not any(path.exists() for path in (*held.both, *other.both))


def test_a_unit_that_is_computed_keeps_its_files(tmp_path: Path) -> None:
    ended, computed = made(tmp_path, "1"), made(tmp_path, "2")
    ended.remove()
    assert all(any(directory.iterdir()) for directory in computed.both)


def test_a_file_that_is_only_read_is_no_obstacle(tmp_path: Path) -> None:
    unit = made(tmp_path, "1")
    with (unit.both[1] / "delta.bin").open("rb"):
        unit.remove()
    assert not unit.both[1].exists()


def test_links_in_the_place_of_outputs_lead_nowhere(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "mine").write_bytes(b"mine")
    unit = made(tmp_path / "work", "1")
    (unit.both[1].parent / "7").symlink_to(precious, target_is_directory=True)
    (unit.both[1] / "link").symlink_to(precious / "mine")
    unit.remove()
    assert (precious / "mine").read_bytes() == b"mine"
    assert not unit.both[1].exists()


LOOKING = """
import sys, time
from pathlib import Path
from pleb_agent.worker.plain_files import is_being_written
end = time.monotonic() + 0.5
while time.monotonic() < end:
    is_being_written(Path(sys.argv[1]))
"""
OPENING = """
import os, sys
while True:
    os.close(os.open(sys.argv[1], os.O_WRONLY))
"""


def test_a_worker_that_opens_a_file_at_that_moment_signals_nobody_to_death(tmp_path: Path) -> None:
    (tmp_path / "delta.bin").touch()
    path = str(tmp_path / "delta.bin")
    with subprocess.Popen([sys.executable, "-c", OPENING, path]) as opening:
        try:
            subprocess.run([sys.executable, "-c", LOOKING, path], check=True, timeout=60)
        finally:
            opening.kill()
