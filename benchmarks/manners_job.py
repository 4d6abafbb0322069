"""Units whose steps take a given time: published to a coordinator, or for a worker without one."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import torch

from benchmarks import manners_model
from pleb_agent.program.clock import system_clock
from pleb_agent.worker.errors import WorkerError
from pleb_agent.worker.job import OUTPUT_FILES, Job, Progress, WorkerSettings
from pleb_agent.worker.plain_files import keep_plain
from pleb_agent.worker.process import WorkerProcess
from pleb_project.check.draft import Draft, make_draft
from pleb_project.definition.load import load_definition
from pleb_project.publish.publisher import Publisher
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.client import Address, Coordinator
from pleb_project.server.records import Home
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.unit import ShardRange, Unit, UnitKind, VersionSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pleb_project.processes import Fleet

__all__ = ["Busy", "busy_worker", "layers_for", "make_job", "publish_project"]

BATCH: Final = 256
STEPS: Final = 100_000
UNIT_SECONDS: Final = 240.0

PROJECT: Final = """
[project]
name = "{name}"
[data]
source = "sklearn:digits"
[model]
file = "{file}"
arguments = {{ layers = {layers} }}
[training]
optimizer = "adamw"
batch = {batch}
local_steps = {steps}
versions = 1000
[round]
units = 64
quorum = 64
"""


def layers_for(step_seconds: float) -> int:
    """Return how many layers make a step of this length on one free core of this machine."""
    torch.set_num_threads(1)
    seconds = {count: _step_seconds(count) for count in (2, 22)}
    layer = (seconds[22] - seconds[2]) / 20
    return max(1, round((step_seconds - seconds[2]) / layer) + 2)


def _step_seconds(layers: int) -> float:
    """Return the processor time of a step, which hardly depends on who else uses the machine."""
    generator = torch.Generator().manual_seed(0)
    batch = {
        "x": torch.randn(BATCH, 8, 8, generator=generator),
        "y": torch.randint(0, 10, (BATCH,), generator=generator),
    }
    model = manners_model.model(layers)
    optimizer = torch.optim.AdamW(model.parameters())
    taken = []
    for _ in range(12):
        start = time.process_time()
        optimizer.zero_grad()
        manners_model.loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        taken.append(time.process_time() - start)
    return sorted(taken)[3]


def _make_project(folder: Path, name: str, layers: int, steps: int) -> tuple[Draft, BlobFolder]:
    """Return a project of units of `steps` steps, and its blobs in the new `folder`."""
    folder.mkdir(parents=True)
    text = PROJECT.format(
        name=name, file=manners_model.__file__, layers=layers, batch=BATCH, steps=steps
    )
    (folder / "project.toml").write_text(text, encoding="utf-8")
    blobs = BlobFolder(folder / "blobs")
    return make_draft(load_definition(folder), blobs), blobs


def publish_project(fleet: Fleet, url: str, milliseconds: int, layers: int) -> str:
    """Publish as `pleb-project publish` does, but for the check, which would take minutes.

    Returns the attach link.
    """
    name = f"manners-{milliseconds}"
    steps = min(STEPS, round(UNIT_SECONDS * 1000 / milliseconds))
    draft, blobs = _make_project(fleet.folder / name, name, layers, steps)
    with Coordinator(Address(url)) as coordinator:
        home = Home(fleet.folder / name / "home")
        publisher = Publisher(coordinator, home, system_clock, lambda _: None)
        record = publisher.publish(draft.metadata, blobs, invite=fleet.invite("publisher"))
    return record.attach_link


def make_job(directory: Path, layers: int, steps: int = STEPS) -> Job:
    """Return a unit whose files are below the new `directory`."""
    draft, blobs = _make_project(directory, "manners", layers, steps)
    model = draft.metadata.model
    job = Job(
        folder=str(directory),
        name="unit",
        file_bytes=2**30,
        unit=Unit(
            kind=UnitKind.TRAIN,
            epoch=0,
            version=0,
            shards=ShardRange(first=0, count=1),
            seed=1,
            local_steps=steps,
        ),
        version=VersionSource(
            epoch=0,
            number=0,
            digest=model.initial_digest,
            snapshot=model.initial,
            snapshot_number=0,
            differences=[],
        ),
        shards=["shard-0"],
    )
    for place in (job.input_dir, job.output_dir):
        place.mkdir(parents=True)
    for name in OUTPUT_FILES:
        keep_plain(job.output_dir / name)
    files = {
        "metadata.json": strict_json.encode(draft.metadata),
        "graph.json": draft.exported.training_graph,
        "snapshot.safetensors": draft.exported.initial,
        "shard-0": blobs.get(draft.dataset.shards.train[0].digest),
    }
    for name, data in files.items():
        (job.input_dir / name).write_bytes(data)
    return job


class Busy:
    """A worker that computes a unit without an end; `progress` is all that it reported."""

    def __init__(self, worker: WorkerProcess, job: Job) -> None:
        self.worker = worker
        self.progress: list[Progress] = []
        self._task = asyncio.create_task(self._run(job))

    async def _run(self, job: Job) -> None:
        async for reply in self.worker.run(job):
            if isinstance(reply, Progress):
                self.progress.append(reply)
        raise RuntimeError("The unit without an end has ended.")

    async def until_reported(self, count: int = 1) -> None:
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
        await busy.until_reported(3)
        yield busy
    finally:
        await busy.stop()
