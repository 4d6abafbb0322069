"""Members' own data: accuracy against pooled training, each member alone, and with one liar.

Members have images with different labels, drawn from a Dirichlet distribution (concentration 0.3),
and train one network by the product's units, codec, combination and outer step; a unit reads one
local shard of its member. `pooled` has the same units on all members' images together, mixed, and
the exact mean: what they would get if one of them had everything. `alone_N` is each member without
the others. The other rows are ways to combine the members' updates, honest ones and with one more
member who lies: `scaled` sends noise of a thousand times its update's length, `flipped` its update
with the other sign, and `mislabelled` trains on images whose labels are all wrong.

The files of Fashion-MNIST are in the folder that FASHION_MNIST names; without it, and with
`--quick`, it is scikit-learn's digits.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.in_process import changed, on_holdout, train_in_rounds
from pleb_project.check.draft import Draft, make_draft
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_project.readers.idx import read_idx_pair
from pleb_shared.tensors.format import training_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.in_process import Deltas
    from pleb_coordinator.aggregation.outer_step import OuterState
    from pleb_shared.tensors.layout import Tensors

    Arrived = Callable[[int, Deltas, OuterState], Deltas]

MEMBERS: Final = 3
CONCENTRATION: Final = 0.3
RULES: Final = ("mean", "centred_clipping", "trimmed_mean", "median")
LIES: Final = ("scaled", "flipped", "mislabelled")
SCALE: Final = 1000.0
SHARD: Final = 2000

MODEL: Final = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy


def model(inputs, width, scale):
    return nn.Sequential(
        nn.Flatten(), Scaled(scale), nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, 10)
    )


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x.float() / self.scale


def loss(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])


def evaluate(model, batch):
    scores = model(batch["x"])
    right = (scores.argmax(1) == batch["y"]).float().mean()
    return {"loss": cross_entropy(scores, batch["y"]), "accuracy": right}
"""
PROJECT: Final = """
[project]
name = "own-data"
access = "invited"
[data]
where = "host"
source = "npz"
files = "examples.npz"
holdout_files = "holdout.npz"
[model]
arguments = {arguments}
[training]
optimizer = "sgd"
learning_rate = 0.1
batch = 64
local_steps = {steps}
versions = {versions}
[outer]
learning_rate = 1.0
momentum = 0.5
[codec]
up = "int8"
down = "int8"
[round]
units = {members}
quorum = {members}
"""


def main(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="pleb-own-data-") as name:
        train, held = images(quick)
        draft, blobs = draft_of(Path(name), train, held, quick)
        members = [cut(train, chosen) for chosen in parts(train[1], generator)]
        everything = [shard for shards in members for shard in shards]
        pooled = cut(
            (
                np.concatenate([shard["x"] for shard in everything]),
                np.concatenate([shard["y"] for shard in everything]),
            ),
            generator.permutation(sum(len(shard["y"]) for shard in everything)),
        )
        found: dict[str, Any] = {}

        def note(way: str, one: Draft, own: list[list[Tensors]], arrived: Arrived = honest) -> None:
            version = train_in_rounds(one, blobs, arrived=arrived, own=own)
            found[way] = on_holdout(one, blobs, version)["accuracy"]
            print(way, round(found[way], 4), flush=True)

        exact = with_rule(draft, "mean", MEMBERS)
        turns = [pooled[number::MEMBERS] or pooled for number in range(MEMBERS)]
        note("pooled", exact, turns)
        for number, shards in enumerate(members):
            note(f"alone_{number}", exact, [shards])
        wrong = [{"x": shard["x"], "y": (shard["y"] + 1) % 10} for shard in pooled]
        for rule in RULES if not quick else RULES[:2]:
            note(f"honest_{rule}", with_rule(draft, rule, MEMBERS), members)
            lied = with_rule(draft, rule, MEMBERS + 1)
            for lie in LIES:
                liar = wrong if lie == "mislabelled" else members[0]
                note(f"{lie}_{rule}", lied, [*members, liar], lying(draft, lie))
        found["labels"] = [label_counts(shards) for shards in members]
    return found


def honest(_: int, deltas: Deltas, __: OuterState) -> Deltas:
    return deltas


def lying(draft: Draft, lie: str) -> Arrived:
    """Return what becomes of a round's updates if the last one's author lies so."""
    form = training_format(draft.metadata)

    def arrived(number: int, deltas: Deltas, _: OuterState) -> Deltas:
        *others, (data, weight) = deltas
        generator = np.random.default_rng(number)
        sent = form.decode(data)
        if lie == "scaled":
            for name, array in sent.items():
                noise = generator.normal(size=array.shape)
                length = SCALE * np.linalg.norm(array) / max(float(np.linalg.norm(noise)), 1e-12)
                sent[name] = (noise * length).astype(np.float32)
        elif lie == "flipped":
            sent = {name: -array for name, array in sent.items()}
        return [*others, (form.encode(sent), weight)]

    return arrived


Images = tuple[NDArray[Any], NDArray[np.int64]]


def images(quick: bool) -> tuple[Images, Images]:
    """Images and labels for training and for the holdout."""
    named = os.environ.get("FASHION_MNIST")
    if named and not quick:
        return _pair(Path(named), "train"), _pair(Path(named), "t10k")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(1).permutation(len(bunch.target))
    x, y = bunch.images[order].astype(np.uint8), bunch.target[order].astype(np.int64)
    return (x[400:], y[400:]), (x[:400], y[:400])


def _pair(folder: Path, start: str) -> Images:
    """Read the images [n, 28, 28] and labels [n] of one part."""
    pixels, labels = (next(folder.glob(f"{start}*-{kind}-*")) for kind in ("images", "labels"))
    chunks = [chunk.rows for chunk in read_idx_pair(pixels, labels)]
    return np.concatenate([c["x"] for c in chunks]), np.concatenate([c["y"] for c in chunks])


def parts(labels: NDArray[np.int64], generator: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return which images each member has: every label is divided by one Dirichlet draw."""
    owned: list[list[NDArray[np.int64]]] = [[] for _ in range(MEMBERS)]
    for label in np.unique(labels):
        places = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet([CONCENTRATION] * MEMBERS)
        ends = np.round(np.cumsum(shares)[:-1] * len(places)).astype(int)
        for member, own in enumerate(np.split(places, ends)):
            owned[member].append(own)
    return [generator.permutation(np.concatenate(own)) for own in owned]


def cut(some: Images, chosen: NDArray[Any]) -> list[Tensors]:
    """Return images as local shards, in the order of `chosen`."""
    pieces = np.array_split(chosen, max(1, len(chosen) // SHARD))
    return [{"x": some[0][piece], "y": some[1][piece]} for piece in pieces]


def label_counts(shards: list[Tensors]) -> list[int]:
    return [int(n) for n in np.bincount(np.concatenate([s["y"] for s in shards]), minlength=10)]


def with_rule(draft: Draft, rule: str, units: int) -> Draft:
    """Return the draft with a combination; of the mean, as a project without own data has it."""
    metadata = draft.metadata
    if rule == "mean":
        data = msgspec.structs.replace(metadata.data, own=None)
        plain = msgspec.structs.replace(metadata, data=data)
        draft = Draft(draft.definition, draft.dataset, draft.exported, plain, 0)
    return changed(
        draft,
        outer={"combination": rule, "trim_fraction": 0.34},
        round={"units": units, "quorum": units},
    )


def draft_of(folder: Path, train: Images, held: Images, quick: bool) -> tuple[Draft, BlobFolder]:
    np.savez(folder / "examples.npz", x=train[0][:128], y=train[1][:128])
    np.savez(folder / "holdout.npz", x=held[0], y=held[1])
    scale = float(train[0].max())
    arguments = f"{{ inputs = {train[0][0].size}, width = 64, scale = {scale} }}"
    sizes = {"steps": 5, "versions": 40} if quick else {"steps": 10, "versions": 150}
    (folder / "model.py").write_text(MODEL, "utf-8")
    text = PROJECT.format(arguments=arguments, members=MEMBERS, **sizes)
    (folder / "project.toml").write_text(text, "utf-8")
    (folder / "blobs").mkdir()
    blobs = BlobFolder(folder / "blobs")
    return make_draft(load_definition(folder), blobs), blobs
