"""Checkpoints of one made-up unit, for the tests about what is left of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pleb_agent.worker.checkpoint import Checkpoint, CheckpointFiles, CheckpointHeader
from pleb_agent.worker.job import CHECKPOINT_FILES
from pleb_agent.worker.plain_files import keep_plain
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.worker.power_loss import Files

UNIT = Unit(
    kind=UnitKind.TRAIN,
    epoch=0,
    version=3,
    shards=ShardRange(first=0, count=1),
    seed=5,
    local_steps=9,
)


def checkpoint(steps: int, **changes: object) -> Checkpoint:
    header = CheckpointHeader(
        unit=UNIT, version_digest="ab", runtime="here", steps_done=steps, compute_seconds=steps
    )
    state = np.random.default_rng(steps).bytes(150)
    return Checkpoint(msgspec.structs.replace(header, **changes), state)


def load(files: CheckpointFiles) -> Checkpoint | None:
    return files.load(unit=UNIT, version_digest="ab", runtime="here")


def new_files(directory: Path) -> list[str]:
    """Make the files, as the agent does before a worker fills them; return their names."""
    for name in CHECKPOINT_FILES:
        keep_plain(directory / name)
    return list(CHECKPOINT_FILES)


def steps_left(directory: Path, files: Files) -> int:
    """Put `files` on the disk and return how far they lead; a state of its own is the proof."""
    for path in directory.iterdir():
        path.unlink()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    found = load(CheckpointFiles(directory))
    if found is None:
        return 0
    steps = found.header.steps_done
    assert found == checkpoint(steps), "a corrupt checkpoint was taken for a whole one"
    return steps
