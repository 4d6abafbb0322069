"""Computing one unit in the engine: from its checkpoint if there is one, and what failure means."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.agent_state import AssignmentEvent, next_state
from pleb_agent.worker.errors import JobStopped, Remedy, WorkerError, WorkerUnusable
from pleb_agent.worker.job import DeltaOutcome, Job, JobResult, Progress
from pleb_shared.errors import PlebError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.report import (
    DeltaResult,
    EvaluationResult,
    FailureResult,
    Report,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.ports import Clock, Engine

__all__ = ["Computing", "InputsDamagedError", "PutAwayError", "failed_row"]

_LOG: Final = logging.getLogger("pleb.agent")
_MOST_TRIES: Final = 2


class PutAwayError(PlebError):
    """The unit was put away with a checkpoint; it goes on later."""


class InputsDamagedError(PlebError):
    """The unit's files are damaged: fetch them again."""


class Computing:
    """Runs units in the engine."""

    def __init__(self, engine: Engine, journal: Journal, clock: Clock) -> None:
        self._engine = engine
        self._journal = journal
        self._clock = clock

    async def compute(
        self, row: AssignmentRow, job: Job, on_progress: Callable[[Progress], None]
    ) -> AssignmentRow:
        """Return the row with its result (computed), its failure (failed), or late.

        The engine's death is forgiven once; the second time the unit is given back.

        Raises:
            PutAwayError: the engine was told to stop; the checkpoint is kept.
            InputsDamagedError: a file is not what its digest says.
            WorkerUnusable: no engine at all.
        """
        row = replace(row, state=next_state(row.state, AssignmentEvent.STARTED))
        tries = row.tries
        while True:
            try:
                result = await self._run_within_lease(row, job, on_progress)
            except WorkerUnusable:
                raise
            except WorkerError as error:
                if self._clock() >= row.lease_ends_at:
                    return _late(row)
                tries = self._after(row, error, tries)
                if tries >= _MOST_TRIES or error.remedy is Remedy.GIVE_BACK:
                    return failed_row(row, str(error))
            else:
                return _computed(row, job, result)

    def _after(self, row: AssignmentRow, error: WorkerError, tries: int) -> int:
        """Log the failure and return how many tries the unit has used."""
        if isinstance(error, JobStopped):
            raise PutAwayError(str(error)) from error
        _LOG.warning(
            "train", extra={"assignment": row.assignment, "problem": str(error), "tries": tries}
        )
        if error.remedy is Remedy.GIVE_BACK:
            return tries
        self._journal.count_try(row.id)
        if error.remedy is Remedy.FETCH_AGAIN and tries + 1 < _MOST_TRIES:
            raise InputsDamagedError(str(error)) from error
        return tries + 1

    async def _run_within_lease(
        self, row: AssignmentRow, job: Job, on_progress: Callable[[Progress], None]
    ) -> JobResult:
        result: JobResult | None = None
        async with self._lease_guard(row.lease_ends_at):
            async for message in self._engine.run(job):  # to its end: it frees the engine there
                if isinstance(message, JobResult):
                    result = message
                else:
                    on_progress(message)
        if result is None:
            raise WorkerUnusable("The worker ended a unit without a result; please report this.")
        return result

    @asynccontextmanager
    async def _lease_guard(self, lease_ends_at: float) -> AsyncIterator[None]:
        """Stop the engine when the lease ends: the unit is somebody else's then."""

        async def guard() -> None:
            await asyncio.sleep(max(0.0, lease_ends_at - self._clock()))
            await self._engine.request_checkpoint_and_stop()

        task = asyncio.create_task(guard())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def failed_row(row: AssignmentRow, reason: str) -> AssignmentRow:
    """Return the row as one that gives its unit back with this reason."""
    state = next_state(row.state, AssignmentEvent.GAVE_UP)
    result = FailureResult(reason=reason[:500])
    return replace(row, state=state, report=_report(row, result, 0.0), note=reason[:500])


def _late(row: AssignmentRow) -> AssignmentRow:
    state = next_state(row.state, AssignmentEvent.LEASE_ENDED)
    return replace(row, state=state, note="The lease ended before the unit was done.")


def _computed(row: AssignmentRow, job: Job, result: JobResult) -> AssignmentRow:
    outcome = result.outcome
    if isinstance(outcome, DeltaOutcome):
        losses = (outcome.loss_first, outcome.loss_last)
        if not all(math.isfinite(loss) for loss in losses):
            return failed_row(row, "The loss is not a number.")
        stated: Result = DeltaResult(
            digest=outcome.digest,
            size=outcome.size,
            attached=outcome.size <= LIMITS.attached_delta_bytes,
            loss_first=outcome.loss_first,
            loss_last=outcome.loss_last,
        )
        delta_file = str(Path(job.job_dir) / outcome.file)
    else:
        stated = EvaluationResult(metrics=outcome.metrics, examples=outcome.examples)
        delta_file = ""
    return replace(
        row,
        state=next_state(row.state, AssignmentEvent.FINISHED),
        report=_report(row, stated, result.compute_seconds),
        delta_file=delta_file,
    )


def _report(row: AssignmentRow, result: Result, compute_seconds: float) -> bytes:
    manifest = row.manifest
    return msgspec.json.encode(
        Report(
            assignment=manifest.assignment,
            nonce=manifest.nonce,
            epoch=manifest.unit.epoch,
            version=manifest.unit.version,
            result=result,
            compute_seconds=compute_seconds,
        )
    )
