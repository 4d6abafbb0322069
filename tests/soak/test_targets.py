"""Every reader of strangers' bytes refuses changed inputs with a typed error, or takes them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.soak.frame import Finding, Target, run_plain, starting_inputs, try_one
from tests.soak.mutate import Mutator
from tests.soak.targets import ALL


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("soak")


@pytest.fixture(scope="module", autouse=True)
def _worlds(work):
    """Targets that make a world of their own make it there, and keep it."""
    before, tempfile.tempdir = tempfile.tempdir, str(work)
    yield
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def forks(work):
    """A process that has imported the targets and runs each in a fork of itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.soak", "--forks", "--work", str(work)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": str(work)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate()
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_changed_inputs_are_taken_or_refused(name, forks, work):
    """In a process of its own, as a crash or a flood of memory would end this one."""
    forks.stdin.write(f"{name}\n")
    forks.stdin.flush()
    status = forks.stdout.readline()
    assert status == "0\n", (work / name / "log").read_text(encoding="utf-8")[-4000:]


@pytest.mark.parametrize("name", ALL)
def test_seeds_are_accepted(name):
    """Fuzzing that starts from refused inputs reaches little."""
    for data in ALL[name].seeds():
        assert try_one(ALL[name], data)


def test_a_target_that_fails_is_found_and_its_input_kept(tmp_path):
    def fails(data: bytes) -> None:
        if b"\xff" in data:
            raise KeyError("not typed")

    target = Target(name="fails", run=fails, seeds=lambda: [b"harmless"])
    with pytest.raises(Finding, match="KeyError"):
        run_plain(target, 10_000, 1, tmp_path / "current")
    assert b"\xff" in (tmp_path / "current").read_bytes()


def test_the_same_seed_changes_in_the_same_way():
    for target in ALL.values():
        pool = starting_inputs(target)
        first, second = (Mutator(4, target.words, json=target.json) for _ in range(2))
        for _ in range(20):
            assert first.changed(pool, 10_000) == second.changed(pool, 10_000)
