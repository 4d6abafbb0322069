"""What the benchmark of manners refuses, and how it counts."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.manners_desktop import cpu_seconds, require_programs
from benchmarks.manners_job import make_job
from pleb_agent.worker.devices.cpu import Cpu
from pleb_agent.worker.inputs import GraphCache, VersionCache, read_metadata, read_shards
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("there", "advice"),
    [
        (set(), "apt-get install xvfb dbus xfce4-panel"),
        ({"dbus-daemon", "xfce4-panel"}, "apt-get install xvfb"),
        ({"dbus-daemon", "Xvfb"}, "apt-get install xfce4-panel"),
    ],
)
def test_without_a_desktop_it_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, there: set[str], advice: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name if name in there else None)
    with pytest.raises(SystemExit) as refusal:
        require_programs()
    assert str(refusal.value).endswith(advice)


def test_with_all_programs_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    require_programs()


def test_the_processor_time_is_that_of_the_kernel() -> None:
    before, start = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() < start + 0.05:
        pass
    assert 0.04 < cpu_seconds(os.getpid()) - before < 5.0


def test_its_units_can_be_computed(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", layers=3, steps=2)
    metadata = read_metadata(job)
    graph = GraphCache(2**31, Cpu()).get(job, metadata).compiled
    version, difference = VersionCache().get(job, metadata)
    run = UnitRun(graph, metadata, job.unit, version, difference, read_shards(job))
    losses = [run.step(), run.step()]
    assert all(3.0 < loss < 9.0 for loss in losses)  # of 256 classes by chance: ln 256 = 5.5
