"""Accuracy against epsilon: projects with clip and noise, trained by the product's own steps.

A small network learns Fashion-MNIST (images averaged to 7 x 7; 15,000 for training) with units of
one shard of 25 images each, 200 units a round, so that the noise is shared by many. The unit of
privacy is what one shard holds, whatever it holds instead. `exact` is the ordinary mean, `clipped`
has the clip and next to no noise; the others have the noise multiplier in their names, and their
epsilon with delta 1e-5 of all versions, as `pleb-project status` gives it. The clip was chosen by a
look at the norms of honest deltas, which no epsilon here accounts for.

The files of Fashion-MNIST are in the folder that FASHION_MNIST names; without it, and with
`--quick`, it is scikit-learn's digits, of which there are too few shards for a small epsilon.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch

from benchmarks.in_process import on_holdout, train_in_rounds
from pleb_project.check.draft import Draft, make_draft
from pleb_project.check.privacy import planned_epsilon
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.protocol.project import Privacy, elements
from pleb_shared.tensors.distance import delta_norm
from pleb_shared.tensors.format import training_format

if TYPE_CHECKING:
    from benchmarks.in_process import Deltas
    from pleb_coordinator.aggregation.outer_step import OuterState

CLIP_NORM: Final = 1.0
DELTA: Final = 1e-5
MULTIPLIERS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
WITHOUT_NOISE: Final = 1e-3

MODEL: Final = """
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy


class Network(nn.Module):
    def __init__(self, pool, inputs, scale):
        super().__init__()
        self.pool, self.scale = pool, scale
        self.layers = nn.Sequential(nn.Linear(inputs, 32), nn.SiLU(), nn.Linear(32, 10))

    def forward(self, x):
        x = avg_pool2d(x.unsqueeze(1).float() / self.scale, self.pool)
        return self.layers(x.flatten(1))


def model(**sizes):
    return Network(**sizes)


def loss(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])


def evaluate(model, batch):
    scores = model(batch["x"])
    right = (scores.argmax(1) == batch["y"]).float().mean()
    return {"loss": cross_entropy(scores, batch["y"]), "accuracy": right}
"""
PROJECT: Final = """
[project]
name = "privacy"
[data]
{data}
shard_examples = {shard_examples}
[model]
arguments = {arguments}
[training]
optimizer = "sgd"
learning_rate = 1.0
momentum = 0.0
schedule = "constant"
batch = {shard_examples}
local_steps = {steps}
versions = {versions}
warmup_steps = 0
unit_warmup_steps = 0
shards_per_unit = 1
[outer]
learning_rate = 1.0
momentum = 0.7
[codec]
up = "int8"
down = "int8"
[round]
units = {units}
quorum = {units}
"""


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    multipliers = MULTIPLIERS[::3] if quick else MULTIPLIERS
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pleb-privacy-") as name:
        draft, blobs = draft_of(Path(name), quick)
        norms: list[float] = []

        def measured(_: int, deltas: Deltas, __: OuterState) -> Deltas:
            form = training_format(draft.metadata)
            norms.extend(delta_norm(form.decode(data), form.model) for data, _ in deltas)
            return deltas

        ways: dict[str, float | None] = {"exact": None, "clipped": WITHOUT_NOISE}
        ways |= {f"noise_{multiplier:g}": multiplier for multiplier in multipliers}
        for way, multiplier in ways.items():
            noisy = draft if multiplier is None else with_noise(draft, multiplier)
            arrived = measured if multiplier is None else lambda _, deltas, __: deltas
            version = train_in_rounds(noisy, blobs, arrived=arrived)
            row = {"accuracy": on_holdout(noisy, blobs, version)["accuracy"]}
            noise = noisy.metadata.privacy
            if noise is not None:
                shards = len(draft.dataset.shards.train)
                row["epsilon"] = planned_epsilon(noisy.metadata, noise, shards)
            found[way] = row
            print(way, row, flush=True)
    shards = len(draft.dataset.shards.train)
    return found | {
        "clip_norm": CLIP_NORM,
        "median_norm": median(norms),
        "delta": DELTA,
        "shards": shards,
        "rounds_of_a_shard": draft.metadata.round.units * draft.metadata.training.versions / shards,
        "parameters": sum(map(elements, draft.metadata.model.parameters)),
    }


def draft_of(folder: Path, quick: bool) -> tuple[Draft, BlobFolder]:
    named = os.environ.get("FASHION_MNIST")
    if named and not quick:

        def pair(start: str) -> list[str]:
            return [str(next(Path(named).glob(f"{start}*-{k}-*"))) for k in ("images", "labels")]

        data = f'source = "idx"\nfiles = {pair("train")}\nholdout_files = {pair("t10k")}'
        sizes = {"shard_examples": 25, "units": 200, "versions": 12, "steps": 10}
        arguments = "{ pool = 4, inputs = 49, scale = 255.0 }"
    else:
        data = 'source = "sklearn:digits"\nholdout = 0.2'
        sizes = {"shard_examples": 5, "units": 40, "versions": 8, "steps": 5}
        arguments = "{ pool = 1, inputs = 64, scale = 1.0 }"
    (folder / "model.py").write_text(MODEL, "utf-8")
    text = PROJECT.format(data=data, arguments=arguments, **sizes)
    (folder / "project.toml").write_text(text, "utf-8")
    (folder / "blobs").mkdir()
    blobs = BlobFolder(folder / "blobs")
    return make_draft(load_definition(folder), blobs), blobs


def with_noise(draft: Draft, multiplier: float) -> Draft:
    noise = Privacy(clip_norm=CLIP_NORM, noise_multiplier=multiplier, delta=DELTA)
    metadata = msgspec.structs.replace(draft.metadata, privacy=noise)
    return Draft(
        draft.definition, draft.dataset, draft.exported, metadata, draft.predicted_memory_bytes
    )
