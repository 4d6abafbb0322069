"""The loop over a training unit's steps: flag page, progress, checkpoints, time."""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import TYPE_CHECKING

from pleb_agent.worker.checkpoint import Checkpoint, CheckpointDue, CheckpointHeader
from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.job import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.worker.checkpoint import CheckpointFiles
    from pleb_agent.worker.control import CommandReader
    from pleb_agent.worker.job import Job, WorkerSettings
    from pleb_shared.training.local_sgd import UnitRun

__all__ = ["StepTimes", "Steps"]


class StepTimes:
    """How long the steps took, without the time in which the process was suspended."""

    def __init__(self, threads: int, seconds_before: float = 0.0) -> None:
        self._threads = threads
        self._durations: list[float] = []
        self.total_seconds = seconds_before
        """All steps of the unit, those of earlier processes too."""

    def add(self, wall_seconds: float, cpu_seconds: float, *, suspended: bool) -> None:
        """Count one step; a suspended one by the processor time that it had on each thread."""
        seconds = cpu_seconds / self._threads if suspended else wall_seconds
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
    ) -> None:
        self._job = job
        self._run = run
        self._files = files
        self._settings = settings
        self._runtime = runtime
        self._times = times

    def finish(
        self,
        control: CommandReader,
        report: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Do all steps; `report` takes the progress now and then, and at the last.

        Raises:
            JobStopped: the flag page says so; a checkpoint is written.
            TrainingError: the loss is not a finite number.
        """
        run, settings, times = self._run, self._settings, self._times
        due = CheckpointDue(settings, clock())
        report_at = clock()
        while run.steps_done < run.steps_total:
            try:
                control.between_steps()
            except JobStopped:
                if run.steps_done:
                    self._save()
                raise
            suspensions, start, start_cpu = control.suspensions, clock(), time.process_time()
            loss = run.step()
            now = clock()
            times.add(
                now - start,
                time.process_time() - start_cpu,
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
