"""Computes a job: from files to a delta or metrics, with checkpoints on the way."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from pleb_agent.worker.checkpoint import (
    Checkpoint,
    CheckpointDue,
    CheckpointFiles,
    CheckpointHeader,
)
from pleb_agent.worker.deadline import run_seconds
from pleb_agent.worker.errors import JobStopped, NumericsUnavailable
from pleb_agent.worker.inputs import (
    BaseCache,
    GraphCache,
    ShardsInTurn,
    VersionCache,
    memory_of_shards,
    read_metadata,
    read_shards,
)
from pleb_agent.worker.job import (
    DELTA_FILE,
    EXPECTED,
    DeltaOutcome,
    EvaluationOutcome,
    JobResult,
    Progress,
)
from pleb_shared.errors import EncodingError
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.packing import pack
from pleb_shared.training.evaluation import evaluate
from pleb_shared.training.local_sgd import UnitRun
from pleb_shared.training.showcase import show
from pleb_system.durable import write_in_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import UnsetType

    from pleb_agent.worker.control import CommandReader
    from pleb_agent.worker.deadline import Deadline
    from pleb_agent.worker.devices.device import Device
    from pleb_agent.worker.inputs import KnownGraph
    from pleb_agent.worker.job import Job, WorkerSettings
    from pleb_shared.protocol.project import Numerics, ProjectMetadata
    from pleb_shared.protocol.showcase import Showcase, Shown
    from pleb_shared.tensors.layout import Tensors
    from pleb_shared.training.dry_run import Cost

__all__ = ["Executor", "StepTimes", "Steps"]

_CHECK_SECONDS: Final = 60.0
"""For parsing, compiling and dry-running a graph; one of 1,000 operators takes about a second."""


class Executor:
    """Computes one job after the other; graphs, base and latest version stay in memory."""

    def __init__(
        self,
        settings: WorkerSettings,
        numerics: Numerics,
        device: Device,
        control: CommandReader,
        report: Callable[[Progress], None],
        deadline: Deadline,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._numerics = numerics
        self._deadline = deadline
        self._device = device
        self._runtime = device.runtime(settings.threads).under(numerics).fingerprint()
        self._control = control
        self._report = report
        self._clock = clock
        self._graphs = GraphCache(settings.memory_bytes, device)
        self._bases = BaseCache(device.place)
        self._versions = VersionCache()

    def execute(self, job: Job) -> JobResult:
        """Return the result of `job`; a delta is in its output directory then.

        Raises:
            WorkerError, PlebError: `job.failure_of` turns each into an answer.
        """
        try:
            return self._executed(job)
        finally:
            self._deadline.rest()  # also after a failure: an idle worker is never late

    def _executed(self, job: Job) -> JobResult:
        self._control.between_steps()
        metadata = read_metadata(job)
        if metadata.verification.numerics != self._numerics:
            raise NumericsUnavailable(
                f"The project computes in {metadata.verification.numerics} numerics, this process "
                f"in {self._numerics} ones: please report this."
            )
        self._deadline.begin(_CHECK_SECONDS)
        known = self._graphs.get(job, metadata)
        self._deadline.rest()
        self._control.between_steps()
        is_part = job.unit.chunk != FULL  # the unit adds the parameters that stay as they are
        graph = known.compiled.with_base(self._bases.get(job, metadata), partly=is_part)
        self._control.between_steps()
        version, difference = self._versions.get(job, metadata)
        self._control.between_steps()
        if job.unit.kind is UnitKind.EVALUATE:
            return self._evaluate(job, metadata, replace(known, compiled=graph), version)
        shards = read_shards(job)
        files = CheckpointFiles(job.output_dir)
        saved = files.load(unit=job.unit, version_digest=job.version.digest, runtime=self._runtime)
        arguments = (graph, metadata, job.unit, version, difference, shards)
        try:
            run = UnitRun(*arguments, saved.state if saved else None)
        except EncodingError:
            if saved is None:
                raise
            saved, run = None, UnitRun(*arguments)  # a state of another release: start over
        seconds_before = saved.header.compute_seconds if saved else 0.0
        times = StepTimes(self._device.lanes, seconds_before)
        steps = Steps(job, run, files, self._settings, self._runtime, times, self._device)
        limit_seconds = run_seconds(known.cost)
        steps.finish(
            self._control,
            self._report,
            self._clock,
            lambda: self._deadline.begin(limit_seconds),
            self._deadline.rest,
        )
        return self._delivered(job, run, times)

    def _evaluate(
        self,
        job: Job,
        metadata: ProjectMetadata,
        known: KnownGraph,
        version: Tensors,
    ) -> JobResult:
        """Return the metrics of the unit's shards.

        `version`: the model's tensors, each with the shape that the metadata's layout gives it.
        """
        limit_seconds = run_seconds(known.cost)
        shard_bytes = memory_of_shards(job)

        def between_batches() -> None:
            self._deadline.rest()
            self._control.between_steps()
            self._deadline.begin(limit_seconds)

        def approve(cost: Cost) -> None:
            nonlocal limit_seconds
            limit_seconds = max(limit_seconds, run_seconds(cost))
            self._graphs.check_memory(cost, metadata, shard_bytes)
            self._deadline.begin(limit_seconds)

        start = self._clock()
        metrics, examples = evaluate(
            known.compiled, metadata, job.unit, version, ShardsInTurn(job), between_batches, approve
        )
        shown: Shown | UnsetType = UNSET
        if metadata.showcase is not UNSET:
            shown = self._shown(job, metadata, metadata.showcase, version, between_batches, approve)
        self._deadline.rest()
        seconds = self._clock() - start
        return JobResult(
            outcome=EvaluationOutcome(metrics=metrics, examples=examples, showcase=shown),
            compute_seconds=seconds,
            seconds_per_step=seconds,
            peak_bytes=self._device.peak_bytes(),
        )

    def _shown(
        self,
        job: Job,
        metadata: ProjectMetadata,
        showcase: Showcase,
        version: Tensors,
        before_run: Callable[[], None],
        approve: Callable[[Cost], None],
    ) -> Shown | UnsetType:
        """Return what the version says or sees; unset if that fails, which costs no metrics."""
        try:
            self._deadline.begin(_CHECK_SECONDS)
            known = self._graphs.showcase(job, metadata, showcase.graph)
            graph = known.compiled.with_base(self._bases.get(job, metadata))
            shards = ShardsInTurn(job)
            return show(graph, metadata, showcase, version, shards, before_run, approve)
        except JobStopped:
            raise
        except EXPECTED as error:
            sys.stderr.write(f"no showcase: {error}\n")
            return UNSET

    def _delivered(self, job: Job, run: UnitRun, times: StepTimes) -> JobResult:
        """Write the delta of a unit whose steps are done, and return the result."""
        delta = run.delta()
        packed = pack(delta)
        write_in_place(job.output_dir / DELTA_FILE, packed)
        return JobResult(
            outcome=DeltaOutcome(
                file=DELTA_FILE,
                digest=digest_of(delta),
                size=len(packed),
                loss_first=run.loss_first,
                loss_last=run.loss_last,
            ),
            compute_seconds=times.total_seconds,
            seconds_per_step=times.typical_seconds,
            peak_bytes=self._device.peak_bytes(),
        )


class StepTimes:
    """How long the steps took, without the time in which the process was suspended."""

    def __init__(self, lanes: int, seconds_before: float = 0.0) -> None:
        self._lanes = lanes
        self._durations: list[float] = []
        self.total_seconds = seconds_before
        """All steps of the unit, those of earlier processes too."""

    def add(self, wall_seconds: float, busy_seconds: float, *, suspended: bool) -> None:
        """Count one step; a suspended one by the device's time that it had on each lane."""
        seconds = busy_seconds / self._lanes if suspended else wall_seconds
        self._durations.append(seconds)
        self.total_seconds += seconds

    @property
    def typical_seconds(self) -> float:
        """Median of this process's steps but the first, which warms caches up."""
        return median(self._durations[1:] or self._durations or [0.0])


class Steps:
    """Does the steps of one unit that are left."""

    def __init__(
        self,
        job: Job,
        run: UnitRun,
        files: CheckpointFiles,
        settings: WorkerSettings,
        runtime: str,
        times: StepTimes,
        device: Device,
    ) -> None:
        self._job = job
        self._run = run
        self._files = files
        self._settings = settings
        self._runtime = runtime
        self._times = times
        self._device = device

    def finish(
        self,
        control: CommandReader,
        report: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
        begin: Callable[[], None] = lambda: None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        """Do all steps; `report` takes the progress now and then, and at the last.

        `begin` is called right before each step, `end` right after it: between steps a worker may
        rest, and nothing must wake it then.

        Raises:
            JobStopped: the flag page says so; a checkpoint is written.
            TrainingError: the loss is not a finite number.
        """
        run, settings, times, device = self._run, self._settings, self._times, self._device
        due = CheckpointDue(settings, clock())
        report_at = clock()
        while run.steps_done < run.steps_total:
            try:
                control.between_steps()
            except JobStopped:
                if run.steps_done:
                    self._save()
                raise
            begin()
            suspensions, start, busy_before = control.suspensions, clock(), device.busy_seconds()
            try:
                loss = run.step()
                device.synchronize()
            finally:
                end()
            now = clock()
            times.add(
                now - start,
                device.busy_seconds() - busy_before,
                suspended=control.suspensions != suspensions,
            )
            if now >= report_at or run.steps_done == run.steps_total:
                report(
                    Progress(
                        steps_done=run.steps_done,
                        steps_total=run.steps_total,
                        loss=loss,
                        compute_seconds=times.total_seconds,
                    )
                )
                report_at = now + settings.progress_seconds
            if due(now):
                size = self._save()
                due.written(clock(), size)

    def _save(self) -> int:
        """Write a checkpoint, return its size. A full disk costs the checkpoint, not the unit."""
        header = CheckpointHeader(
            unit=self._job.unit,
            version_digest=self._job.version.digest,
            runtime=self._runtime,
            steps_done=self._run.steps_done,
            compute_seconds=self._times.total_seconds,
        )
        state = self._run.state()
        try:
            return self._files.save(Checkpoint(header, state))
        except OSError as error:
            sys.stderr.write(f"no checkpoint: {error}\n")
            return len(state)
