"""What hosts add that are too small for the whole model: `python -m benchmarks chunks`.

Ten hosts train a GPT over bytes and a convolutional network; three of them have half of the memory
that the whole model needs, one a quarter. Everything is the product's own (units, codec, the rule
who gets which chunk, combination, outer step), without servers. Three fleets are compared, with as
many versions each: the six strong hosts alone (`without`), all ten (`with`), and ten strong ones
(`all`). `gain_in_errors` is without - with, in standard errors of that difference over the seeds.

Memory: what a unit really takes beyond a warm process, for larger models and batches, over what was
predicted, and over what a host must have to get it (a little more).

The text is the file that TINYSHAKESPEARE names, else the source of Python's own modules; the images
are in the folder that FASHION_MNIST names, else scikit-learn's digits.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.in_process import on_holdout, train_in_rounds
from benchmarks.lora import text_to_learn
from pleb_coordinator.core.chunks import best_chunk, whole_memory
from pleb_project.check.draft import Draft, make_draft
from pleb_project.definition.load import load_definition
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.protocol.chunk import FULL, needed_memory
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.tensors.format import training_format

SHARES: Final = (*(1.0,) * 6, *(0.5,) * 3, 0.25)
"""Of the memory for the whole model, by host."""
HOSTS: Final = len(SHARES)

_MODEL: Final = """
from benchmarks.models import {model}, GptSize, {kind}_loss, {kind}_metrics

def named(batch):
    return batch if "{kind}" == "gpt" else {{"image": batch["x"], "label": batch["y"]}}

def model():
    return {made}

def loss(model, batch):
    return {kind}_loss(model, named(batch))

def evaluate(model, batch):
    return {kind}_metrics(model, named(batch))
"""
_PROJECT: Final = """
[project]
name = "chunks-{kind}"
[data]
{data}
[training]
batch = {batch}
local_steps = {steps}
versions = {versions}
learning_rate = {rate}
warmup_steps = {steps}
[evaluation]
batch = 64
[round]
units = {hosts}
[limits]
chunks = {chunks}
"""


@dataclass(frozen=True)
class Case:
    """A model, its data and its chunks."""

    kind: str
    model: str
    made: str
    large: str
    """The model whose memory is measured."""
    chunks: tuple[str, ...]
    batch: int
    steps: int
    versions: int
    rate: float


CASES: Final = (
    Case(
        kind="gpt",
        model="Gpt",
        made="Gpt(GptSize(layers=4, width=64, heads=4, window=64))",
        large="Gpt(GptSize(layers=6, width=256, heads=8, window=64))",
        chunks=("layers:1/2",),
        batch=2,
        steps=20,
        versions=25,
        rate=0.02,
    ),
    Case(
        kind="cnn",
        model="Cnn",
        made="Cnn(16, dropout=0.0)",
        large="Cnn(64, dropout=0.0)",
        chunks=("width:0.45", "width:0.2"),
        batch=8,
        steps=20,
        versions=15,
        rate=0.02,
    ),
)


def main(quick: bool) -> dict[str, Any]:
    """Return losses, memory and bytes."""
    found: dict[str, Any] = {"seeds": 1 if quick else 5, "hosts": HOSTS}
    with tempfile.TemporaryDirectory(prefix="pleb-chunks-") as name:
        for case in CASES:
            small = replace(case, versions=6) if quick else case
            found[case.kind] = _learning(small, Path(name), found["seeds"])
            found[case.kind]["chunks"] = _costs(case, Path(name))
    return found


def _learning(case: Case, folder: Path, seeds: int) -> dict[str, Any]:
    losses: dict[str, list[float]] = {"without": [], "with": [], "all": []}
    fleet: tuple[str, ...] = ()
    for seed in range(seeds):
        draft, blobs = _draft(case, folder, case.made, seed)
        fleet = tuple(filter(None, (_chunk_of(draft.metadata, share) for share in SHARES)))
        fleets = {"without": (FULL,) * SHARES.count(1.0), "with": fleet, "all": (FULL,) * HOSTS}
        for name, chunks in fleets.items():
            version = train_in_rounds(draft, blobs, seed, chunks)
            losses[name].append(on_holdout(draft, blobs, version)["loss"])
    gains = [a - b for a, b in zip(losses["without"], losses["with"], strict=True)]
    error = statistics.stdev(gains) / math.sqrt(seeds) if seeds > 1 else math.nan
    mean = statistics.fmean(gains)
    return {
        "fleet": {name: fleet.count(name) for name in dict.fromkeys(fleet)},
        **{f"loss_{name}": statistics.fmean(found) for name, found in losses.items()},
        "losses": losses,
        "gain": mean,
        "gain_in_errors": mean / error if error else math.nan,
    }


def _costs(case: Case, folder: Path) -> dict[str, Any]:
    draft, blobs = _draft(case, folder, case.large, 0, "training.batch=64")
    metadata = draft.metadata
    found = {}
    for name in (FULL, *(chunk.name for chunk in metadata.chunks)):
        predicted = metadata.limits.full_bytes
        for chunk in metadata.chunks:
            predicted = chunk.memory_bytes if chunk.name == name else predicted
        with get_context("spawn").Pool(1) as pool:
            encoded = msgspec.json.encode(metadata)
            peak = pool.apply(peak_bytes, (encoded, str(blobs.folder), name))
        found[name] = {
            "predicted_mb": predicted / 1e6,
            "predicted_share": predicted / metadata.limits.full_bytes,
            "peak_mb": peak / 1e6,
            "peak_over_predicted": peak / predicted,
            "peak_over_needed": peak / needed_memory(predicted),
            "upload_bytes": training_format(metadata, name).size,
        }
    return found


def _draft(
    case: Case, folder: Path, made: str, seed: int, *settings: str
) -> tuple[Draft, BlobFolder]:
    place = folder / f"{case.kind}-{abs(hash(made))}"
    if not place.exists():
        place.mkdir()
        code = _MODEL.format(model=case.model, kind=case.kind, made=made)
        (place / "model.py").write_text(code, "utf-8")
        fields = vars(case) | {"chunks": list(case.chunks), "hosts": HOSTS}
        text = _PROJECT.format(**fields, data=_data(case, place))
        (place / "project.toml").write_text(text, "utf-8")
        (place / "blobs").mkdir()
    blobs = BlobFolder(place / "blobs")
    return make_draft(load_definition(place, (f"model.seed={seed}", *settings)), blobs), blobs


def _data(case: Case, place: Path) -> str:
    """Return the lines of [data]."""
    if case.kind == "gpt":
        (place / "text.txt").write_text(text_to_learn(), "utf-8")
        return 'source = "text"\nfiles = "text.txt"\nwindow = 64'
    folder = os.environ.get("FASHION_MNIST")
    if folder is None:
        return 'source = "sklearn:digits"\nholdout = 0.2'
    files = [str(next(Path(folder).glob(f"t10k-{kind}-*"))) for kind in ("images", "labels")]
    return f'source = "idx"\nfiles = {files}\nholdout = 0.2'


def _chunk_of(metadata: ProjectMetadata, share: float) -> str | None:
    """Return what a host with that share of the memory for the whole model trains, if anything."""
    best = best_chunk(metadata, int(share * whole_memory(metadata)))
    return None if best is None else best.name


def peak_bytes(encoded: bytes, folder: str, chunk: str) -> int:
    """Return what a unit of the chunk takes in this process, beyond what it has when it is warm."""
    from pleb_shared.protocol.graph import parse_graph
    from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind
    from pleb_shared.tensors.layout import load_tensors
    from pleb_shared.training.graph import CompiledGraph
    from pleb_shared.training.local_sgd import UnitRun

    metadata = msgspec.json.decode(encoded, type=ProjectMetadata)
    blobs = BlobFolder(Path(folder))
    blob = metadata.graph_of(chunk) or metadata.training_graph
    graph = CompiledGraph(parse_graph(blobs.get(blob.digest)))
    listed = msgspec.json.decode(blobs.get(metadata.data.shards.digest), type=Mapping[str, Any])
    unit = Unit(
        kind=UnitKind.TRAIN,
        epoch=0,
        version=1,
        chunk=chunk,
        shards=ShardRange(first=0, count=1),
        seed=0,
        local_steps=2,
    )

    def trained() -> None:
        shard = load_tensors(blobs.get(listed["train"][0]["digest"]))
        version = load_tensors(blobs.get(metadata.model.initial.digest))
        difference = {name: 0 * array for name, array in version.items()}
        run = UnitRun(graph, metadata, unit, version, difference, [shard])
        while run.steps_done < run.steps_total:
            run.step()
        run.delta()

    trained()  # kernels are loaded and compiled at their first use
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest value starts again from here
    trained()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Return a figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
