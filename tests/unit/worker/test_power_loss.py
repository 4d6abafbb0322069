"""Power is lost at any moment of writing checkpoints: what is loaded is whole, and recent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pleb_agent.worker.checkpoint import CheckpointFiles
from tests.unit.worker.checkpoints import checkpoint, load, new_files, steps_left
from tests.unit.worker.power_loss import (
    Append,
    Create,
    Disk,
    Done,
    Operation,
    Rename,
    SyncDirectory,
    SyncFile,
    crashes,
    record,
)

if TYPE_CHECKING:
    from pathlib import Path

SAVES = 4


def recorded_saves(patch: pytest.MonkeyPatch, directory: Path) -> list[Operation]:
    """Save the checkpoints 1 to 4 in new files, as one worker does."""
    directory.mkdir()
    with patch.context() as context:
        operations = record(context, directory)
        for name in new_files(directory):
            operations.append(Create(name))
        files = CheckpointFiles(directory)
        for number in range(1, SAVES + 1):
            files.save(checkpoint(number))
            operations.append(Done(number))
    return operations


def scratch(tmp_path: Path) -> Path:
    directory = tmp_path / "after"
    directory.mkdir()
    return directory


def without(operations: list[Operation], kind: type[Operation]) -> list[Operation]:
    return [operation for operation in operations if not isinstance(operation, kind)]


def test_the_last_checkpoint_or_the_one_in_writing_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = recorded_saves(monkeypatch, tmp_path / "before")
    directory = scratch(tmp_path)
    found = {(done, steps_left(directory, files)) for done, files in crashes(operations)}
    both = {(done, done + more) for done in range(SAVES) for more in (0, 1)}
    assert found == both | {(SAVES, SAVES)}


@pytest.mark.parametrize("forgotten", [SyncFile, SyncDirectory])
def test_a_disk_that_only_claims_to_sync_costs_progress_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: type[Operation]
) -> None:
    """Also shows that the model finds a writer that forgets a sync."""
    operations = without(recorded_saves(monkeypatch, tmp_path / "before"), forgotten)
    directory = scratch(tmp_path)
    found = {(done, steps_left(directory, files)) for done, files in crashes(operations)}
    assert any(steps < done for done, steps in found)


def test_a_second_loss_of_power_loses_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker goes on from any remains, saves once more, and power is lost again."""
    operations = recorded_saves(monkeypatch, tmp_path / "before")
    directory = scratch(tmp_path)
    for _, files in list(crashes(operations))[::5]:
        steps = steps_left(directory, files)
        with monkeypatch.context() as context:
            again = record(context, directory)
            new_files(directory)
            checkpoints = CheckpointFiles(directory)
            load(checkpoints)
            checkpoints.save(checkpoint(steps + 1))
        later = {steps_left(directory, left) for _, left in crashes(again, files)}
        assert later == {steps, steps + 1}


def test_the_model_keeps_what_is_synced_and_nothing_else() -> None:
    disk = Disk()
    safely: list[Operation] = [Create("a"), Append("a", b"1" * 100), SyncFile("a"), SyncDirectory()]
    for operation in safely:
        disk.follow(operation)
    assert list(disk.left()) == [{"a": b"1" * 100}]
    for further in (Create("b"), Append("b", b"2" * 100), Rename("b", "a")):
        disk.follow(further)
    left = list(disk.left())
    assert {"a": b"1" * 100} in left
    assert {"a": b"2" * 100} in left
    assert {"a": b"2" * 50} in left
    assert {"a": bytes(64) + b"2" * 36} in left
    assert all(set(files) <= {"a", "b"} for files in left)
