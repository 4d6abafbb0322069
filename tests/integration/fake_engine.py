"""An engine that computes nothing: results are functions of the unit.

`tests/conformance/test_engine.py` holds it to the worker's process.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import TYPE_CHECKING

from pleb_agent.worker.errors import (
    JobStopped,
    RuntimeMissing,
    WorkerDied,
    WorkerError,
    WorkerUnusable,
)
from pleb_agent.worker.job import DeltaOutcome, EvaluationOutcome, Job, JobResult, Progress
from pleb_shared.protocol.messages import Runtime
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.packing import pack

if TYPE_CHECKING:
    from pleb_agent.core.readiness import WorkerLimits

RUNTIME = Runtime(torch="2.13.0", device="cpu", threads=1, capability="AVX2", system="linux-x86_64")


class FakeEngine:
    """`failures` are raised, one for each run, before anything is computed."""

    def __init__(self, *, delta_bytes: int = 100, step_seconds: float = 0.0) -> None:
        self.delta_bytes = delta_bytes
        self.step_seconds = step_seconds
        self.failures: deque[WorkerError | None] = deque()
        self.dies_at: deque[int] = deque()
        """Steps after which it dies, each once."""
        self.jobs: list[Job] = []
        self.inputs: list[dict[str, str]] = []
        self.steps_computed = 0
        self.steps = 5
        self.claimed_seconds = 0.0
        """What a step claims to have taken; 0: what it took."""
        self.runtime = RUNTIME
        self.start_failures = 0
        self.lacks_runtime = False
        self.is_closed = False
        self.is_warm = False
        self.limits: list[WorkerLimits] = []
        self.free = asyncio.Event()
        self.free.set()
        self._stop = False
        self.has_job = False
        self.memory_bytes = 2**30

    @property
    def pid(self) -> int | None:
        return 4711 if self.is_warm else None

    def limit(self, limits: WorkerLimits) -> None:
        self.limits.append(limits)

    async def start(self) -> Runtime:
        self.is_closed = False
        if self.lacks_runtime:
            raise RuntimeMissing("torch is not here yet")
        if self.start_failures:
            self.start_failures -= 1
            raise WorkerUnusable("torch is broken")
        self.is_warm = True
        return self.runtime

    async def run(self, job: Job):
        self.jobs.append(job)
        self.is_warm = True
        self._stop = False
        self.has_job = True
        try:
            self._read_inputs(job)
            if self.failures and (failure := self.failures.popleft()) is not None:
                raise failure
            for step in range(self.steps_before(job), self.steps):
                await asyncio.sleep(self.step_seconds)
                await self.free.wait()
                if self._stop:
                    self.is_warm = False
                    raise JobStopped("put away")
                if self.is_closed:
                    raise WorkerDied("closed")
                self.steps_computed += 1
                (job.output_dir / "checkpoint").write_text(str(step + 1))
                yield Progress(
                    steps_done=step + 1,
                    steps_total=self.steps,
                    loss=1.0 / (step + 1),
                    compute_seconds=(self.claimed_seconds or self.step_seconds) * (step + 1),
                )
                if self.dies_at and self.dies_at[0] == step + 1:
                    self.dies_at.popleft()
                    raise WorkerDied("killed")
            yield self.result_of(job)
        finally:
            self.has_job = False

    async def pause(self) -> None:
        if not (self._stop and self.has_job):
            self.free.clear()

    async def resume(self) -> None:
        self.free.set()

    async def request_checkpoint_and_stop(self) -> None:
        if self.has_job:
            self._stop = True
            self.free.set()
        else:
            self.is_warm = False

    async def close(self) -> None:
        self.is_closed = True
        self.is_warm = False

    def _read_inputs(self, job: Job) -> None:
        names = [job.metadata, job.graph, job.base, job.snapshot, *job.differences, *job.shards]
        read = {name: (job.input_dir / name).read_bytes() for name in names}
        self.inputs.append({n: hashlib.sha256(data).hexdigest() for n, data in read.items()})

    def steps_before(self, job: Job) -> int:
        path = job.output_dir / "checkpoint"
        return int(path.read_text()) if path.exists() else 0

    def result_of(self, job: Job) -> JobResult:
        if job.unit.kind is UnitKind.EVALUATE:
            outcome: DeltaOutcome | EvaluationOutcome = EvaluationOutcome(
                metrics={"loss": 0.5}, examples=10
            )
        else:
            seed = hashlib.sha256(repr(job.unit).encode()).digest()
            delta = hashlib.shake_256(seed).digest(self.delta_bytes)  # nothing makes it smaller
            packed = pack(delta)
            (job.output_dir / "delta.bin").write_bytes(packed)
            outcome = DeltaOutcome(
                file="delta.bin",
                digest=hashlib.sha256(delta).hexdigest(),
                size=len(packed),
                loss_first=1.0,
                loss_last=0.2,
            )
        return JobResult(
            outcome=outcome, compute_seconds=1.0, seconds_per_step=0.2, peak_bytes=10**6
        )
