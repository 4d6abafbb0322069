"""Ordinary convolutional networks through `check`: native or strict, at what price, and who lies.

Each network (`numerics_model`) is a project on scikit-learn's digits, checked as a researcher would
check it. `honest` is how far honest results of native numerics are apart, `ceiling` what a project
allows at most, `numerics` what the check chose, `tolerance` what holds then, `slowdown` what a step
takes in strict numerics (processor time over native, median of `PAIRS` pairs).

`lies` are the distances of wrong results from the honest one, after the encoding: with a passing
network each must be beyond whatever the tolerance may rise to. `least_lie` is the least of them
over that ceiling.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from benchmarks.numerics_model import KINDS
from pleb_project.check.run import check_project
from pleb_project.check.tolerance import encoded_distances
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.protocol.numerics import variables
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
from pleb_shared.tensors.format import training_format
from pleb_shared.tensors.layout import Tensors, load_tensors
from pleb_shared.tensors.version import apply_difference
from pleb_shared.training.local_sgd import UnitRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_project.check.draft import Draft
    from pleb_shared.protocol.project import ProjectMetadata

STEPS: Final = 20
PAIRS: Final = 5
PROJECT: Final = f"""
[project]
name = "numerics"
[data]
source = "sklearn:digits"
[model]
file = "numerics_model.py"
arguments = {{ kind = "%s" }}
[training]
optimizer = "%s"
local_steps = {STEPS}
"""
TIMED: Final = """
import os, sys, time
import torch
if sys.argv[2] == "strict":
    from pleb_shared.training.numerics import compute_strictly
    compute_strictly(os.environ)
from benchmarks.numerics_model import loss, model
torch.manual_seed(0)
torch.set_num_threads(1)
net = model(sys.argv[1])
batch = {"x": torch.rand(32, 8, 8), "y": torch.arange(32) % 10}
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(45):
    if step == 5:
        start = time.process_time()
    optimizer.zero_grad()
    loss(net, batch).backward()
    optimizer.step()
print(time.process_time() - start)
"""


def main(quick: bool) -> dict[str, Any]:
    kinds, optimizers = (["conv_bn_relu"], ["muon"]) if quick else (list(KINDS), ["muon", "sgd"])
    found = {f"{k}_{o}": row(k, o) for k in kinds for o in optimizers}
    slowdowns = {kind: slowdown(kind, 1 if quick else PAIRS) for kind in kinds}
    return {
        "passed": sum(one["passed"] for one in found.values()),
        "of": len(found),
        "least_lie": min(one["least_lie"] for one in found.values()),
        "slowdown": max(slowdowns.values()),
        "slowdowns": slowdowns,
        "projects": found,
    }


def row(kind: str, optimizer: str) -> dict[str, Any]:
    """Return what the check says of a network, and how far off lies are."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, blobs = Path(name), BlobFolder(Path(name, "blobs"))
        (folder / "project.toml").write_text(PROJECT % (kind, optimizer))
        model = Path(__file__).with_name("numerics_model.py")
        (folder / model.name).write_bytes(model.read_bytes())
        outcome = check_project(load_definition(folder), blobs, lambda _: None)
        distances = lies(outcome.draft, blobs)
    verification = outcome.metadata.verification
    return {
        "passed": outcome.passed,
        "numerics": verification.numerics,
        "honest": outcome.native.honest,
        "later": outcome.native.later,
        "ceiling": outcome.native.ceiling,
        "tolerance": verification.tolerance,
        "least_lie": min(distances.values()) / verification.tolerance_ceiling,
        "lies": distances,
    }


def lies(draft: Draft, blobs: BlobFolder) -> dict[str, float]:
    """Return how far each lie about a unit of version 1 is from the truth: the largest tensor's."""
    metadata, encoding = draft.metadata, training_format(draft.metadata)
    start = load_tensors(draft.exported.initial)

    def trained(version: Tensors, number: int, *, shard: int = 1, steps: int = STEPS) -> Tensors:
        unit = Unit(
            kind=UnitKind.TRAIN,
            epoch=0,
            version=number,
            shards=ShardRange(first=shard, count=1),
            seed=shard,
            local_steps=steps,
        )
        graph = draft.exported.compiled(draft.exported.training_graph)
        run = UnitRun(graph, metadata, unit, version, None, [draft.shard(blobs, shard)])
        while run.steps_done < run.steps_total:
            run.step()
        return run.exact_delta()

    first = trained(start, 0, shard=0)
    version = apply_difference(
        start, {name: -array for name, array in first.items()}, metadata.model
    )
    honest = trained(version, 1)
    told = {
        **made_up(honest, metadata),
        "half_the_steps": trained(version, 1, steps=STEPS // 2),
        "last_step_skipped": trained(version, 1, steps=STEPS - 1),
        "other_shard": trained(version, 1, shard=2),
        "stale": trained(start, 0),
    }
    return {
        name: max(encoded_distances(honest, lie, encoding).values()) for name, lie in told.items()
    }


def made_up(honest: Tensors, metadata: ProjectMetadata) -> Mapping[str, Tensors]:
    """Return the lies that need no training. All tensors have the shapes of the model's specs."""
    generator = np.random.default_rng(0)
    trained = {spec.name for spec in metadata.model.parameters}
    last = metadata.model.parameters[-2].name

    def changed(factor: float = 1.0, noise: float = 0.0, only: str = "") -> Tensors:
        lie = dict(honest)
        for name in {only} if only else trained:
            array = honest[name]
            scale = noise * float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
            more = scale * generator.standard_normal(array.shape)
            lie[name] = (factor * array + more).astype(np.float32)
        return lie

    return {
        "sign_flip": changed(-1.0),
        "zero": changed(0.0),
        "noise_1_percent": changed(noise=0.01),
        "noise_30_percent": changed(noise=0.3),
        "scaled_by_a_half": changed(0.5),
        "scaled_by_1.1": changed(1.1),
        "backdoor_in_one_layer": changed(noise=0.3, only=last),
    }


def slowdown(kind: str, pairs: int) -> float:
    """Return how many times the processor time of a native step a strict one takes."""
    found = [timed(kind, "strict") / timed(kind, "native") for _ in range(pairs)]
    return median(found)


def timed(kind: str, numerics: Any) -> float:
    """Return the processor seconds of 40 steps in a new process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables(numerics)}
    command = [sys.executable, "-c", TIMED, kind, numerics]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
