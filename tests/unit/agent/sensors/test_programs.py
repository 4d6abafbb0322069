"""The user's chosen programs, from processes that the tests write and from real ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pleb_agent.sensors.programs import LinuxPrograms, PsutilPrograms, key_of, matching


@pytest.mark.parametrize(
    "name", ["Game", "game.exe", "GAME.EXE", " game ", "/opt/games/Game", r"C:\Games\Game.exe"]
)
def test_ways_to_write_a_name(name):
    assert key_of(name) == "game"


@pytest.mark.parametrize(
    ("comm", "file", "found"),
    [
        ("blender", "/usr/bin/blender", True),
        ("blender", None, True),
        ("blender-bin", "/opt/Blender", True),
        ("render thread", "/opt/blender", True),
        ("blend", "/usr/bin/blend", False),
        ("wine64-preload", "/usr/bin/blender.sh", False),
    ],
)
def test_by_either_name(comm, file, found):
    assert bool(matching({"blender"}, comm, file)) is found


@pytest.mark.parametrize(
    ("wanted", "comm", "file", "found"),
    [
        ("gnome-system-monitor", "gnome-system-mo", None, True),
        ("gnome-system-monitor", "gnome-system-mo", "/usr/bin/gnome-system-monitor", True),
        ("gnome-system-monitor", "gnome-system-mo", "/usr/bin/gnome-system-mother", False),
        ("cyberpunk2077", "cyberpunk2077.e", "/opt/wine64-preloader", True),
        ("witcher3", "witcher3.exe", "/opt/wine64-preloader", True),
        ("gnome-system", "gnome-system-mo", None, False),
        ("exactly15bytes!", "exactly15bytes!", None, True),
    ],
)
def test_names_that_the_kernel_cuts(wanted, comm, file, found):
    assert bool(matching({wanted}, comm, file)) is found


class Proc:
    def __init__(self, root):
        self.root = root
        self.reads = 0

    def process(self, pid, comm, file=None):
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "comm").write_text(f"{comm}\n")
        (folder / "exe").unlink(missing_ok=True)
        if file is not None:
            (folder / "exe").symlink_to(file)

    def gone(self, pid):
        shutil.rmtree(self.root / str(pid))


@pytest.fixture
def proc(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "stat").write_text("cpu")
    return Proc(tmp_path)


def test_programs_come_and_go(proc):
    proc.process(1, "systemd")
    proc.process(7, "Steam", "/usr/lib/steam/steam (deleted)")
    sensor = LinuxPrograms(lambda: ["steam", "Blender.exe"], proc.root)
    assert sensor.read() == {"steam"}
    proc.process(8, "blender", "/usr/bin/blender")
    assert sensor.read() == {"steam", "Blender.exe"}
    proc.gone(7)
    assert sensor.read() == {"Blender.exe"}
    assert sensor.read() == {"Blender.exe"}
    proc.gone(8)
    assert sensor.read() == frozenset()


def test_a_settled_process_is_not_read_again_for_a_while(proc):
    proc.process(5, "bash")
    sensor = LinuxPrograms(lambda: ["game"], proc.root)
    sensor.read()
    sensor.read()
    proc.process(5, "game")  # it became another program long after its start
    seen = [bool(sensor.read()) for _ in range(8)]
    assert seen[0] is False
    assert seen[-1] is True


def test_a_process_that_becomes_the_program_at_once_is_seen(proc):
    proc.process(5, "bash")
    sensor = LinuxPrograms(lambda: ["game"], proc.root)
    sensor.read()
    proc.process(5, "game")
    assert sensor.read() == {"game"}


def test_another_choice_counts_at_once(proc):
    chosen = ["game"]
    proc.process(5, "game")
    proc.process(6, "film")
    sensor = LinuxPrograms(lambda: chosen, proc.root)
    for _ in range(3):
        assert sensor.read() == {"game"}
    chosen[:] = ["film"]
    assert sensor.read() == {"film"}
    chosen.clear()
    assert sensor.read() == frozenset()


def test_nothing_is_read_where_nothing_is_chosen(tmp_path):
    assert LinuxPrograms(list, tmp_path / "missing").read() == frozenset()
    assert PsutilPrograms(list).read() == frozenset()


@pytest.mark.parametrize("kind", [LinuxPrograms, PsutilPrograms])
def test_a_real_program(tmp_path, kind):
    program = tmp_path / "PlebTestGame-with-a-long-name"
    shutil.copy(shutil.which("sleep") or "", program)
    sensor = kind(lambda: ["plebtestgame-WITH-a-long-name.exe", "no-such-program"])
    assert sensor.read() == frozenset()
    running = subprocess.Popen([program, "60"])
    try:
        assert sensor.read() == {"plebtestgame-WITH-a-long-name.exe"}
    finally:
        running.kill()
        running.wait()
    assert sensor.read() == frozenset()


def test_this_very_program_is_found():
    name = Path(sys.executable).resolve().name
    assert LinuxPrograms(lambda: [name]).read() == {name}
