"""Units whose steps take a wished time, for a worker that is driven without a coordinator.

The model applies one layer over and over, so that the step's time is set by a count while the
state stays small.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from pleb_agent.worker.errors import WorkerError
from pleb_agent.worker.job import Job, Progress, WorkerSettings
from pleb_agent.worker.process import WorkerProcess
from pleb_project.export import export_model
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
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
from pleb_shared.protocol.unit import Blob, ShardRange, Unit, UnitKind, VersionSource
from pleb_shared.tensors.layout import load_tensors, save_tensors, version_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["Busy", "Repeated", "batch", "busy_worker", "layers_for", "loss", "make_job", "metrics"]

WIDTH: Final = 256
BATCH: Final = 256
STEPS: Final = 100_000


class Repeated(nn.Module):
    """`layers` times the same layer: about 0.1 GFLOP each, forward and backward."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.count = layers
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.count):
            x = torch.tanh(self.layer(x))
        return x


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def metrics(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"loss": loss(model, batch)}


def batch(count: int = BATCH) -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(0)
    x = generator.normal(0, 1, (count, WIDTH)).astype(np.float32)
    y = generator.integers(0, WIDTH, count).astype(np.int64)
    return {"x": torch.from_numpy(x), "y": torch.from_numpy(y)}


def layers_for(step_seconds: float) -> int:
    """Return how many layers make a step of this length on one free core of this machine."""
    torch.set_num_threads(1)
    seconds = {count: _step_seconds(count) for count in (2, 22)}
    layer = (seconds[22] - seconds[2]) / 20
    return max(1, round((step_seconds - seconds[2]) / layer) + 2)


def _step_seconds(layers: int) -> float:
    """Processor time, which hardly depends on who else uses the machine."""
    model, data = Repeated(layers), batch()
    optimizer = torch.optim.AdamW(model.parameters())
    taken = []
    for _ in range(12):
        start = time.process_time()
        optimizer.zero_grad()
        loss(model, data).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        taken.append(time.process_time() - start)
    return sorted(taken)[3]


def make_job(directory: Path, layers: int, steps: int = STEPS) -> Job:
    """Return a unit whose inputs lie in the new `directory`."""
    torch.manual_seed(1)
    exported = export_model(Repeated(layers), loss, metrics, batch())
    shard = save_tensors({name: tensor.numpy() for name, tensor in batch(2 * BATCH).items()})
    metadata = ProjectMetadata(
        protocol=1, project="manners", number=1, epoch=0, issued_at=0, root_key="0" * 64,
        delegation=Delegation(online_key="1" * 64, expires_at=2**40), title="Manners",
        description="", data_licence="", contact="", model=exported.model,
        training_graph=_blob(exported.training_graph),
        evaluation_graph=_blob(exported.evaluation_graph),
        data=DataSpec(kind="rows", inputs=exported.inputs, shards=_blob(b"")),
        training=Training(warmup_steps=0,
            optimizer=AdamW(), learning_rate=1e-5, batch_examples=BATCH, local_steps=steps,
            versions=9,
        ),
        outer=OuterStep(), codec=Codec(up="int4", down="int8"), round=Round(),
        verification=Verification(tolerance=0.1, tolerance_ceiling=0.2),
        calibration=Calibration(), limits=ResourceLimits(memory_bytes=2**31),
    )  # fmt: skip
    directory.mkdir(parents=True)
    files = {
        "metadata.json": strict_json.encode(metadata),
        "graph.json": exported.training_graph,
        "snapshot.safetensors": exported.initial,
        "shard-0": shard,
    }
    for name, data in files.items():
        (directory / name).write_bytes(data)
    digest = version_digest(load_tensors(exported.initial), exported.model)
    return Job(
        job_dir=str(directory),
        unit=Unit(
            kind=UnitKind.TRAIN, epoch=0, version=0, shards=ShardRange(first=0, count=1), seed=1,
            local_steps=steps,
        ),
        version=VersionSource(
            epoch=0, number=0, digest=digest, snapshot=_blob(exported.initial), snapshot_number=0,
            differences=[],
        ),
        shards=["shard-0"],
    )  # fmt: skip


def _blob(data: bytes) -> Blob:
    return Blob(digest=digest_of(data), size=len(data))


class Busy:
    """A worker that computes a unit without an end; `progress` is the last that it told."""

    def __init__(self, worker: WorkerProcess, job: Job) -> None:
        self.worker = worker
        self.progress: list[Progress] = []
        self._task = asyncio.create_task(self._run(job))

    async def _run(self, job: Job) -> None:
        async for reply in self.worker.run(job):
            if isinstance(reply, Progress):
                self.progress.append(reply)
        raise RuntimeError("The unit without an end has ended.")

    async def until_told(self, count: int = 1) -> None:
        """Return after so many further messages about steps."""
        wanted = len(self.progress) + count
        while len(self.progress) < wanted:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.01)

    @property
    def pid(self) -> int:
        pid = self.worker.pid
        if pid is None:
            raise RuntimeError("The worker is gone.")
        return pid

    async def stop(self) -> None:
        await self.worker.close()
        with suppress(WorkerError):
            await self._task


@asynccontextmanager
async def busy_worker(
    folder: Path, layers: int, threads: int = 1, *, low_priority: bool = True, pause: float = 60.0
) -> AsyncIterator[Busy]:
    """Start a worker on a unit of its own and yield it when it has done steps."""
    settings = WorkerSettings(
        threads=threads,
        memory_bytes=2**31,
        low_priority=low_priority,
        long_pause_seconds=pause,
        progress_seconds=0.1,
    )
    work = folder / "work"
    worker = WorkerProcess(work, settings)
    job = make_job(work / "job", layers)
    busy = Busy(worker, job)
    try:
        await busy.until_told(3)
        yield busy
    finally:
        await busy.stop()
