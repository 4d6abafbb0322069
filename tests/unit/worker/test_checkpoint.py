"""Checkpoints: the furthest whole one counts, whatever a crash left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pleb_agent.worker.checkpoint import CheckpointDue, CheckpointFiles
from pleb_agent.worker.job import WorkerSettings
from tests.unit.worker.checkpoints import UNIT, checkpoint, load, new_files

if TYPE_CHECKING:
    from pathlib import Path


def saved(directory: Path, *steps: int) -> CheckpointFiles:
    new_files(directory)
    files = CheckpointFiles(directory)
    for number in steps:
        files.save(checkpoint(number))
    return files


def test_the_furthest_is_loaded(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    assert load(CheckpointFiles(tmp_path)) == checkpoint(3)


def test_there_is_none_in_an_empty_directory(tmp_path: Path) -> None:
    assert load(CheckpointFiles(tmp_path)) is None


def test_after_loading_the_older_one_is_replaced(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    files = CheckpointFiles(tmp_path)
    load(files)
    files.save(checkpoint(4))
    (tmp_path / "checkpoint-1").write_bytes(b"torn")
    assert load(CheckpointFiles(tmp_path)) == checkpoint(3)


@pytest.mark.parametrize(
    "change",
    [
        {"unit": msgspec.structs.replace(UNIT, seed=6)},
        {"version_digest": "cd"},
        {"runtime": "elsewhere"},
    ],
)
def test_a_checkpoint_of_other_work_is_not_used(tmp_path: Path, change: dict[str, object]) -> None:
    new_files(tmp_path)
    CheckpointFiles(tmp_path).save(checkpoint(4, **change))
    assert load(CheckpointFiles(tmp_path)) is None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_costs_one_checkpoint_only(tmp_path: Path, data: st.DataObject) -> None:
    saved(tmp_path, 1, 2)
    path = tmp_path / "checkpoint-1"
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans(), "cut"):
        path.write_bytes(whole[:at])
    else:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert load(CheckpointFiles(tmp_path)) == checkpoint(1)


def test_small_states_are_written_every_thirty_seconds() -> None:
    due = CheckpointDue(WorkerSettings(threads=1, memory_bytes=2**20), now=100.0)
    assert [due(129.9), due(130.0)] == [False, True]
    due.written(131.0, size_bytes=1000)
    assert [due(160.9), due(161.0)] == [False, True]


def test_big_states_are_written_more_rarely() -> None:
    due = CheckpointDue(WorkerSettings(threads=1, memory_bytes=2**20), now=0.0)
    due.written(30.0, size_bytes=100_000_000)  # at 0.5 MB/s
    assert [due(229.0), due(230.0)] == [False, True]
