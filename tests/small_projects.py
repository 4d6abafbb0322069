"""Small whole projects, exported once, for tests of training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from benchmarks.models import (
    Cnn,
    Gpt,
    GptSize,
    cnn_batch,
    cnn_loss,
    cnn_metrics,
    gpt_batch,
    gpt_loss,
    gpt_metrics,
)
from pleb_project.export import Exported, export_model
from pleb_shared.protocol.project import (
    AdamW,
    Calibration,
    Codec,
    DataSpec,
    Delegation,
    InputSpec,
    Muon,
    OuterStep,
    ProjectMetadata,
    ResourceLimits,
    Round,
    SgdMomentum,
    Training,
    Verification,
)
from pleb_shared.protocol.unit import Blob, ShardRange, Unit, UnitKind
from pleb_shared.tensors.layout import Tensors, load_tensors

if TYPE_CHECKING:
    from pleb_shared.training.graph import CompiledGraph

NOTHING = Blob(digest="0" * 64, size=0)
GPT = GptSize(layers=2, width=32, heads=2, window=16, dropout=0.1)
BATCH = 8


@dataclass(frozen=True)
class Project:
    """An exported model with metadata, version 0 and shards."""

    exported: Exported
    metadata: ProjectMetadata
    version: Tensors
    shards: list[Tensors]

    @property
    def graph(self) -> CompiledGraph:
        return self.exported.compiled(self.exported.training_graph)

    @property
    def evaluation(self) -> CompiledGraph:
        return self.exported.compiled(self.exported.evaluation_graph)

    def trained_by(self, optimizer: Muon | AdamW | SgdMomentum, **changes) -> ProjectMetadata:
        training = msgspec.structs.replace(self.metadata.training, optimizer=optimizer, **changes)
        return msgspec.structs.replace(self.metadata, training=training)

    def muon(self) -> ProjectMetadata:
        return self.trained_by(Muon(matrices=self.exported.matrices))


def train_unit(*, version: int = 0, steps: int = 6, seed: int = 5) -> Unit:
    return Unit(
        kind=UnitKind.TRAIN,
        epoch=0,
        version=version,
        shards=ShardRange(first=0, count=1),
        seed=seed,
        local_steps=steps,
    )


@cache
def gpt_project() -> Project:
    torch.manual_seed(0)
    exported = export_model(Gpt(GPT), gpt_loss, gpt_metrics, gpt_batch(BATCH, GPT))
    words = np.random.default_rng(0).integers(97, 123, size=(2, 40, 4), dtype=np.uint8)
    shards = [{"x": np.tile(words[i], (4, 1)).reshape(-1)} for i in range(2)]
    return small_project(exported, "windows", GPT.window, shards)


@cache
def cnn_project() -> Project:
    torch.manual_seed(0)
    exported = export_model(Cnn(8, dropout=0.2), cnn_loss, cnn_metrics, cnn_batch(BATCH))
    shards = [
        {name: tensor.numpy() for name, tensor in cnn_batch(21, seed).items()} for seed in (1, 2)
    ]
    return small_project(exported, "rows", 0, shards)


def small_project(exported: Exported, kind: str, window: int, shards: list[Tensors]) -> Project:
    """Return a project with these shards: `rows`, or `windows` of `window` words."""
    metadata = ProjectMetadata(
        protocol=1,
        project="small",
        number=1,
        epoch=0,
        issued_at=0,
        root_key="2" * 64,
        delegation=Delegation(online_key="2" * 64, expires_at=1),
        title="",
        description="",
        data_licence="",
        contact="",
        model=exported.model,
        training_graph=NOTHING,
        evaluation_graph=NOTHING,
        data=data_spec(kind, exported.inputs, window),
        training=Training(
            warmup_steps=0,
            optimizer=AdamW(),
            learning_rate=1e-2,
            batch_examples=BATCH,
            local_steps=6,
            versions=10,
            unit_warmup_steps=2,
        ),
        outer=OuterStep(),
        codec=Codec(block=64),
        round=Round(),
        verification=Verification(tolerance=1e-3, tolerance_ceiling=1e-2),
        calibration=Calibration(steps=2),
        limits=ResourceLimits(memory_bytes=2**30),
    )
    return Project(exported, metadata, load_tensors(exported.initial), shards)


def data_spec(kind: str, inputs: list[InputSpec], window: int = 0) -> DataSpec:
    return DataSpec(kind=kind, window=window, inputs=inputs, shards=NOTHING)  # type: ignore[arg-type]
