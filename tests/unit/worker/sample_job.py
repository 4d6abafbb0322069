"""A small real project (MLP with batch norm and dropout on clusters) and jobs on its versions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from torch import nn

from pleb_agent.worker.job import OUTPUT_FILES, Job
from pleb_agent.worker.plain_files import keep_plain
from pleb_project.export import export_model
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.project import (
    AdamW,
    Calibration,
    Codec,
    DataSpec,
    Delegation,
    OuterStep,
    ProjectMetadata,
    ResourceLimits,
    Round,
    Training,
    Verification,
)
from pleb_shared.protocol.showcase import Showcase
from pleb_shared.protocol.unit import Blob, ShardRange, Unit, UnitKind, VersionSource
from pleb_shared.tensors.format import difference_format
from pleb_shared.tensors.layout import load_tensors, save_tensors, version_digest
from pleb_shared.tensors.packing import pack
from pleb_shared.tensors.version import apply_difference

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_shared.protocol.project import Numerics
    from pleb_shared.tensors.layout import Tensors

BATCH = 32
FEATURES = 16


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(width, 4),
        )
        self.register_buffer("scale", torch.ones(FEATURES, dtype=torch.bfloat16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x * self.get_buffer("scale"))
        return logits


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def evaluate(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    logits = model(batch["x"])
    right = (logits.argmax(-1) == batch["y"]).float().mean()
    return {"loss": nn.functional.cross_entropy(logits, batch["y"]), "accuracy": right}


def scores(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = model(batch["x"])
    return found


@dataclass(frozen=True)
class Sample:
    """Metadata with the blobs that it and its versions name."""

    metadata: ProjectMetadata
    training_graph: bytes
    evaluation_graph: bytes
    showcase_graph: bytes
    base: bytes
    initial: bytes
    differences: list[bytes]
    digests: list[str]
    """Version digests, from version 0 on."""
    shards: list[bytes]


@cache
def sample(width: int = 32) -> Sample:
    torch.manual_seed(1)
    exported = export_model(Net(width), loss, evaluate, _batch(BATCH), showcase=scores)
    shards = [save_tensors(_rows(seed, 200)) for seed in (1, 2)]
    metadata = ProjectMetadata(
        protocol=1, project="sample", number=1, epoch=0, issued_at=0, root_key="2" * 64,
        delegation=Delegation(online_key="1" * 64, expires_at=2**40), title="Sample",
        description="", data_licence="", contact="", model=exported.model,
        training_graph=_blob(exported.training_graph),
        evaluation_graph=_blob(exported.evaluation_graph),
        data=DataSpec(kind="rows", inputs=exported.inputs, shards=_blob(b"")),
        training=Training(warmup_steps=0,
            optimizer=AdamW(), learning_rate=1e-2, batch_examples=BATCH, local_steps=20, versions=9
        ),
        outer=OuterStep(), codec=Codec(up="int4", down="int8"), round=Round(),
        verification=Verification(tolerance=0.1, tolerance_ceiling=0.2),
        calibration=Calibration(), limits=ResourceLimits(memory_bytes=2**30),
    )  # fmt: skip
    differences, digests = _history(metadata, load_tensors(exported.initial))
    return Sample(
        metadata, exported.training_graph, exported.evaluation_graph,
        exported.showcase_graph or b"", exported.base or b"",
        exported.initial, differences, digests, shards,
    )  # fmt: skip


def make_job(
    work_dir: Path,
    *,
    name: str = "job",
    project: str = "project",
    of: str = "sample",
    kind: UnitKind = UnitKind.TRAIN,
    version: int = 0,
    steps: int = 20,
    seed: int = 7,
    width: int = 32,
    memory_bytes: int | None = None,
    numerics: Numerics = "native",
) -> Job:
    """Return a job whose files lie in new directories of `work_dir`.

    `project`: the folder's name; `of`: the project's, in the metadata.
    """
    s = sample(width)
    job = Job(
        folder=str(work_dir / project),
        name=name,
        numerics=numerics,
        file_bytes=2**30,
        unit=Unit(
            kind=kind, epoch=0, version=version, shards=ShardRange(first=0, count=2), seed=seed,
            local_steps=steps,
        ),
        version=VersionSource(
            epoch=0, number=version, digest=s.digests[version], snapshot=_blob(s.initial),
            snapshot_number=0, differences=[_blob(d) for d in s.differences[:version]],
        ),
        differences=[f"difference-{i}" for i in range(version)],
        shards=[f"shard-{i}" for i in range(len(s.shards))],
    )  # fmt: skip
    for directory in (job.input_dir, job.output_dir):
        directory.mkdir(parents=True)
    for output in OUTPUT_FILES:
        keep_plain(job.output_dir / output)
    verification = msgspec.structs.replace(s.metadata.verification, numerics=numerics)
    metadata = msgspec.structs.replace(s.metadata, verification=verification, project=of)
    if memory_bytes is not None:
        limits = ResourceLimits(memory_bytes=memory_bytes)
        metadata = msgspec.structs.replace(metadata, limits=limits)
    graph = s.evaluation_graph if kind is UnitKind.EVALUATE else s.training_graph
    files = {"metadata.json": strict_json.encode(metadata), "graph.json": graph}
    files |= {"base.safetensors": s.base, "snapshot.safetensors": s.initial}
    files |= dict(zip(job.differences, s.differences, strict=False))
    files |= dict(zip(job.shards, s.shards, strict=True))
    for file, data in files.items():
        (job.input_dir / file).write_bytes(data)
    return job


def showcase_of(width: int = 32, **changes: Any) -> Showcase:
    """Return what shows four classes of two examples of the first shard."""
    values: dict[str, Any] = {"graph": _blob(sample(width).showcase_graph), "card": _blob(b"{}")}
    given = {"kind": "classes", "width": 4, "examples": [0, 199]} | changes
    return Showcase(**values | given)


def _history(metadata: ProjectMetadata, version: Tensors) -> tuple[list[bytes], list[str]]:
    """Return three published differences and the digests of the versions 0 to 3."""
    model, encoding = metadata.model, difference_format(metadata)
    digests, differences = [version_digest(version, model)], []
    for seed in range(3):
        generator = np.random.default_rng(seed)
        change = {
            spec.name: generator.normal(0, 1e-3, spec.shape).astype(np.float32)
            for spec in model.parameters
        }
        change |= {
            spec.name: np.zeros(spec.shape, "f4" if spec.dtype == "float32" else "i8")
            for spec in model.buffers
        }
        data = encoding.encode(change)
        difference = encoding.decode(data)
        version = apply_difference(version, difference, model)
        differences.append(pack(data))
        digests.append(version_digest(version, model))
    return differences, digests


def _rows(seed: int, count: int) -> Tensors:
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 4, count)
    centres = np.random.default_rng(0).normal(0, 1, (4, FEATURES))
    x = centres[y] + generator.normal(0, 0.5, (count, FEATURES))
    return {"x": x.astype(np.float32), "y": y.astype(np.int64)}


def _batch(count: int) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in _rows(3, count).items()}


def _blob(data: bytes) -> Blob:
    return blob_of(data)
