"""Computes a job: from files to a delta or metrics, with checkpoints on the way."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import EncodingError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.local_sgd import UnitRun

from pleb_agent.worker.checkpoint import (
    Checkpoint,
    CheckpointDue,
    CheckpointFiles,
    CheckpointHeader,
)
from pleb_agent.worker.durable import write_durably
from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.inputs import GraphCache, VersionCache, read_metadata, read_shards
from pleb_agent.worker.job import DeltaOutcome, EvaluationOutcome, JobResult, Progress
from pleb_agent.worker.memory import peak_resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_shared.protocol.messages import Runtime
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.tensors.layout import Tensors
    from pleb_shared.training.graph import CompiledGraph

    from pleb_agent.worker.control import Control
    from pleb_agent.worker.job import Job, WorkerSettings

__all__ = ["DELTA_FILE", "Executor"]

DELTA_FILE: Final = "delta.bin"


class Executor:
    """Computes one job after the other; graphs and the latest version stay in memory."""

    def __init__(
        self,
        settings: WorkerSettings,
        runtime: Runtime,
        control: Control,
        tell: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._runtime = runtime.fingerprint()
        self._control = control
        self._tell = tell
        self._clock = clock
        self._graphs = GraphCache(settings.memory_bytes)
        self._versions = VersionCache()

    def execute(self, job: Job) -> JobResult:
        """Return the result of `job`; a delta lies in its directory then.

        Raises:
            WorkerError, PlebError: `failures.failure_of` tells which answer each becomes.
        """
        self._control.between_steps()
        metadata = read_metadata(job)
        graph = self._graphs.get(job, metadata)
        version, difference = self._versions.get(job, metadata)
        shards = read_shards(job)
        if job.unit.kind is UnitKind.EVALUATE:
            return self._evaluate(job, metadata, graph, version, shards)
        files = CheckpointFiles(Path(job.job_dir))
        saved = files.load(unit=job.unit, version_digest=job.version.digest, runtime=self._runtime)
        arguments = (graph, metadata, job.unit, version, difference, shards)
        try:
            run = UnitRun(*arguments, saved.state if saved else None)
        except EncodingError:
            if saved is None:
                raise
            saved, run = None, UnitRun(*arguments)  # a state of another release: start anew
        return self._train(job, run, files, saved.header.compute_seconds if saved else 0.0)

    def _evaluate(
        self,
        job: Job,
        metadata: ProjectMetadata,
        graph: CompiledGraph,
        version: Tensors,
        shards: list[Tensors],
    ) -> JobResult:
        self._control.between_steps()
        start = self._clock()
        metrics, examples = evaluate(graph, metadata, job.unit, version, shards)
        seconds = self._clock() - start
        return JobResult(
            outcome=EvaluationOutcome(metrics=metrics, examples=examples),
            compute_seconds=seconds,
            seconds_per_step=seconds,
            peak_bytes=peak_resident_bytes(),
        )

    def _train(
        self, job: Job, run: UnitRun, files: CheckpointFiles, seconds_before: float
    ) -> JobResult:
        durations = self._run_steps(job, run, files, seconds_before)
        delta = run.delta()
        write_durably(Path(job.job_dir) / DELTA_FILE, delta)
        return JobResult(
            outcome=DeltaOutcome(
                file=DELTA_FILE,
                digest=digest_of(delta),
                size=len(delta),
                loss_first=run.loss_first,
                loss_last=run.loss_last,
            ),
            compute_seconds=seconds_before + sum(durations),
            seconds_per_step=median(durations[1:] or durations or [0.0]),
            peak_bytes=peak_resident_bytes(),
        )

    def _run_steps(
        self, job: Job, run: UnitRun, files: CheckpointFiles, seconds_before: float
    ) -> list[float]:
        """Do the steps that are left; returns the seconds that each took."""
        durations: list[float] = []
        due = CheckpointDue(self._settings, self._clock())
        told = self._clock() - self._settings.progress_seconds

        def save() -> int:
            header = CheckpointHeader(
                unit=job.unit,
                version_digest=job.version.digest,
                runtime=self._runtime,
                steps_done=run.steps_done,
                compute_seconds=seconds_before + sum(durations),
            )
            return files.save(Checkpoint(header, run.state()))

        while run.steps_done < run.steps_total:
            try:
                self._control.between_steps()
            except JobStopped:
                if run.steps_done and durations:
                    save()
                raise
            start = self._clock()
            loss = run.step()
            now = self._clock()
            durations.append(now - start)
            if now - told >= self._settings.progress_seconds or run.steps_done == run.steps_total:
                self._tell_progress(run, loss, seconds_before + sum(durations))
                told = now
            if due(now):
                size = save()
                due.written(self._clock(), size)
        return durations

    def _tell_progress(self, run: UnitRun, loss: float, compute_seconds: float) -> None:
        self._tell(
            Progress(
                steps_done=run.steps_done,
                steps_total=run.steps_total,
                loss=loss,
                compute_seconds=compute_seconds,
            )
        )
