"""Runs `check` of a project that is made of an entry, and says how far it came."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_project.check.run import check_project
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.zoo.case import Entry

__all__ = ["Row", "try_entry"]

_CPU_SECONDS: Final = 15.0
"""A bound on a check's steps; small models take less."""
_PROJECT: Final = """
[project]
name = "zoo"
[data]
source = "npy"
files = [{files}]
holdout = 0.25
[training]
optimizer = "{optimizer}"
learning_rate = {learning_rate}
batch = {batch}
local_steps = 10
versions = 100
warmup_steps = 5
"""
_CODE: Final = """
from benchmarks.zoo.table import entry

ENTRY = entry({name!r})
model, loss = ENTRY.make, ENTRY.loss


def evaluate(model, batch):
    return {{"loss": loss(model, batch)}}
"""
_PARITY: Final = "The exported graph differs from the model"


@dataclass(frozen=True)
class Row:
    """How far an entry came; `reason` is the sentence that ended it, or the first warning."""

    name: str
    exported: bool
    parity: bool
    passed: bool
    reason: str
    expected: bool
    """Whether it was to be refused, and was, for the reason that is true."""
    seconds: float

    @property
    def good(self) -> bool:
        return self.passed or self.expected


def try_entry(name: str, entry: Entry, folder: Path) -> Row:
    """Write the project of `entry` into the empty `folder` and check it there."""
    start = time.process_time()
    examples = entry.examples()
    for key, tensor in examples.items():
        np.save(folder / f"{key}.npy", tensor.numpy())
    files = ", ".join(f'"{key}.npy"' for key in examples)
    rate = {"adamw": 0.003, "muon": 0.02}[entry.optimizer]
    text = _PROJECT.format(
        files=files, optimizer=entry.optimizer, learning_rate=rate, batch=entry.batch
    )
    (folder / "project.toml").write_text(text, encoding="utf-8")
    (folder / "model.py").write_text(_CODE.format(name=name), encoding="utf-8")
    drafted: list[object] = []
    exported = parity = passed = False
    try:
        outcome = check_project(
            load_definition(folder),
            BlobFolder(folder / "blobs"),
            lambda _: None,
            cpu_seconds=_CPU_SECONDS,
            admit=drafted.append,
        )
        exported = parity = True
        passed = outcome.passed
        warnings = [w for w in outcome.warnings if " shards are fewer than " not in w]
        reason = "" if passed else (warnings or ["not passed, without a warning"])[0]
    except PlebError as problem:
        reason = str(problem)
        parity = bool(drafted)
        exported = parity or _PARITY in reason
    expected = bool(entry.refusal) and not exported and bool(re.search(entry.refusal, reason))
    return Row(name, exported, parity, passed, reason, expected, time.process_time() - start)
