"""A process notices that its package was upgraded or removed under it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pleb_agent.program.installed import Fate, OwnFiles


@pytest.fixture
def program(monkeypatch, tmp_path):
    path = tmp_path / "pleb-agent"
    path.write_text("first")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def test_the_same_file_stays_the_same(program):
    files = OwnFiles.at_start()
    assert files is not None
    program.read_text()
    assert files.fate() is Fate.SAME


def test_an_upgrade_replaces_it(program):
    files = OwnFiles.at_start()
    assert files is not None
    new = program.with_name("pleb-agent.dpkg-new")
    new.write_text("other")
    new.replace(program)
    assert files.fate() is Fate.REPLACED


def test_a_removal_removes_it(program):
    files = OwnFiles.at_start()
    assert files is not None
    program.unlink()
    assert files.fate() is Fate.REMOVED


def test_from_source_nothing_is_watched():
    assert OwnFiles.at_start() is None


def test_starting_again_is_the_same_process(tmp_path):
    """In a process of its own, since it does not return."""
    code = f"""
import os, sys
open({str(tmp_path / "first")!r}, "w").write(str(os.getpid()))
from pleb_agent.program import installed
say = "import os, sys; print(os.getpid(), sys.argv[1:])"
installed.stable_program = lambda: [sys.executable, "-c", say]
installed.start_again(["start", "--headless"])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    pid = (tmp_path / "first").read_text()
    assert done.stdout.strip() == f"{pid} ['start', '--headless']"
