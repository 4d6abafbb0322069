"""Computes a job: from files to a delta or metrics, with checkpoints on the way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.worker.checkpoint import CheckpointFiles
from pleb_agent.worker.inputs import GraphCache, VersionCache, read_metadata, read_shards
from pleb_agent.worker.job import DeltaOutcome, EvaluationOutcome, JobResult
from pleb_agent.worker.memory import peak_resident_bytes
from pleb_agent.worker.steps import Steps, StepTimes
from pleb_shared.errors import EncodingError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.local_sgd import UnitRun
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.worker.control import CommandReader
    from pleb_agent.worker.job import Job, Progress, WorkerSettings
    from pleb_shared.protocol.messages import Runtime
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.tensors.layout import Tensors
    from pleb_shared.training.graph import CompiledGraph

__all__ = ["DELTA_FILE", "Executor"]

DELTA_FILE: Final = "delta.bin"


class Executor:
    """Computes one job after the other; graphs and the latest version stay in memory."""

    def __init__(
        self,
        settings: WorkerSettings,
        runtime: Runtime,
        control: CommandReader,
        report: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._runtime = runtime.fingerprint()
        self._control = control
        self._report = report
        self._clock = clock
        self._graphs = GraphCache(settings.memory_bytes)
        self._versions = VersionCache()

    def execute(self, job: Job) -> JobResult:
        """Return the result of `job`; a delta is in its directory then.

        Raises:
            WorkerError, PlebError: `failures.failure_of` turns each into an answer.
        """
        self._control.between_steps()
        metadata = read_metadata(job)
        graph = self._graphs.get(job, metadata)
        self._control.between_steps()
        version, difference = self._versions.get(job, metadata)
        self._control.between_steps()
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
            saved, run = None, UnitRun(*arguments)  # a state of another release: start over
        seconds_before = saved.header.compute_seconds if saved else 0.0
        return self._train(job, run, files, StepTimes(self._settings.threads, seconds_before))

    def _evaluate(
        self,
        job: Job,
        metadata: ProjectMetadata,
        graph: CompiledGraph,
        version: Tensors,
        shards: list[Tensors],
    ) -> JobResult:
        """Return the metrics of the unit's shards.

        `version`: the model's tensors, each with the shape that the metadata's layout gives it.
        `shards`: each tensor [examples, ...], by input name.
        """
        start = self._clock()
        metrics, examples = evaluate(
            graph, metadata, job.unit, version, shards, self._control.between_steps
        )
        seconds = self._clock() - start
        return JobResult(
            outcome=EvaluationOutcome(metrics=metrics, examples=examples),
            compute_seconds=seconds,
            seconds_per_step=seconds,
            peak_bytes=peak_resident_bytes(),
        )

    def _train(self, job: Job, run: UnitRun, files: CheckpointFiles, times: StepTimes) -> JobResult:
        steps = Steps(job, run, files, self._settings, self._runtime, times)
        steps.finish(self._control, self._report, self._clock)
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
            compute_seconds=times.total_seconds,
            seconds_per_step=times.typical_seconds,
            peak_bytes=peak_resident_bytes(),
        )
