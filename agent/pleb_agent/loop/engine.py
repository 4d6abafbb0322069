"""The engine as the loop uses it: warm between units, one unit at a time within its lease."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_agent.cache.errors import CorruptBlobError
from pleb_agent.core.agent_state import Activity, AssignmentEvent
from pleb_agent.core.history import EventKind
from pleb_agent.core.sentence import say
from pleb_agent.journal.rows import AssignmentRow, Change
from pleb_agent.loop.energy_count import EnergyCount
from pleb_agent.loop.status import CurrentUnit
from pleb_agent.worker.errors import (
    DeviceRefused,
    JobStopped,
    Remedy,
    RuntimeMissing,
    WorkerError,
    WorkerUnusable,
)
from pleb_agent.worker.job import DeltaOutcome, JobResult, Progress
from pleb_shared.errors import PlebError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.report import DeltaResult, EvaluationResult
from pleb_system.backoff import BACKOFF

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.sentence import Sentence
    from pleb_agent.loop.files import FetchedUnit
    from pleb_agent.loop.governor import Governor
    from pleb_agent.loop.project import Project, UnitEnd
    from pleb_agent.loop.projects import FairTurns
    from pleb_agent.loop.status import LoopState
    from pleb_agent.worker.job import Job
    from pleb_shared.protocol.messages import Runtime

__all__ = ["UnitStopped", "WarmEngine", "is_time_to_prefetch"]

_LOG: Final = logging.getLogger("pleb.agent")
_MOST_TRIES: Final = 2
"""The engine's death over a unit is forgiven once, and again when the unit has got further than at
the death before; else the unit is given back."""
_STOPPED_SECONDS: Final = 1.0
_MISSING_SECONDS: Final = 600.0
_REFUSED_SECONDS: Final = 3600.0
"""How long no unit is asked for after the device refused one: the next would go back too."""
_PREFETCH_FROM_SHARE: Final = 0.8
"""Late, so that the next unit starts from a fresh version."""
_PREFETCH_EARLIEST_SHARE: Final = 0.55
"""Coordinators give no proven host a unit before half of the last one's usual time (`pace`)."""
_FETCH_MARGIN: Final = 1.5
"""How many times as long as usual the next fetch may take and still be hidden."""
_PREFETCH_LEAST_SECONDS: Final = 2.0
"""Less than this hides no fetch."""
_REST_OF_UNIT: Final = 0.25
"""At `_PREFETCH_FROM_SHARE`, a fifth of the unit is left: a quarter of what was computed."""


class UnitStopped(PlebError):
    """The unit was stopped with a checkpoint; it resumes later."""


class _InputsDamagedError(PlebError):
    """The unit's files are damaged: fetch them again."""


class WarmEngine:
    """`runtime` is that of the last start; None before it, and after the engine was lost."""

    def __init__(self, loop: LoopState, governor: Governor, fair: FairTurns) -> None:
        self.runtime: Runtime | None = None
        self._loop = loop
        self._services = loop.services
        self._engine = loop.services.engine
        self._governor = governor
        self._fair = fair
        self._counted: dict[int, float] = {}
        """Computing seconds of units, by row, as their progress said last."""
        self._energy = EnergyCount(loop.services)
        self._failures = 0
        self._refused: tuple[float, Sentence] | None = None
        """Until when the device is left alone, on the event loop's clock, and why."""
        self._used_at = 0.0

    # -- between units ----------------------------------------------------------------------

    async def start(self) -> float:
        """Start the engine unless it is warm; return the seconds to wait before the next try."""
        self._governor.control(self._engine)  # input pauses the start too
        if self.runtime is not None:
            return 0.0
        status = self._loop.status
        if self._refused is not None:
            until, why = self._refused
            left = until - asyncio.get_running_loop().time()
            if left > 0:
                status.set(Activity.PROBLEM, why, self._services.clock() + left)
                return left
            self._refused = None
        status.set(Activity.IDLE, say("The worker is getting ready."))
        began_at = asyncio.get_running_loop().time()
        try:
            self.runtime = await self._engine.start()
        except JobStopped:  # work is not allowed any more
            return _STOPPED_SECONDS
        except RuntimeMissing as error:  # what downloads it shows its progress, and wakes the loop
            status.set(Activity.IDLE, say(str(error)))
            return _MISSING_SECONDS
        except WorkerError as error:
            self._failures += 1
            sentence = say(str(error))
            if self._failures == 1:
                self._loop.history.note(EventKind.PROBLEM, sentence)
            delay = BACKOFF.delay_seconds(self._failures, self._services.draw())
            status.set(Activity.PROBLEM, sentence, self._services.clock() + delay)
            _LOG.error("worker", extra={"problem": str(error)})
            return delay
        self._failures = 0
        self._fair.change_costs(asyncio.get_running_loop().time() - began_at)
        self._note_use()
        self._governor.control(self._engine)
        return 0.0

    def forget(self) -> None:
        """It died, or must be started again: do so before the next unit."""
        self.runtime = None

    def renew(self) -> None:
        """What it is started with has changed: do so before the next unit, whatever it refused."""
        self._refused = None
        self.forget()

    def _refuse(self, error: DeviceRefused) -> None:
        why = say(str(error))
        self._refused = asyncio.get_running_loop().time() + _REFUSED_SECONDS, why
        self.forget()
        self._loop.history.note(EventKind.PROBLEM, why)
        _LOG.error("worker", extra={"problem": str(error)})

    async def rest(self) -> float:
        """Free the memory of an engine without work; return when to look again, in seconds.

        It starts again by itself with the next unit.
        """
        rest_at = self._used_at + self._services.rest_seconds
        left = rest_at - asyncio.get_running_loop().time()
        if left > 0:
            return left
        if self._engine.pid is not None:
            _LOG.info("rest", extra={"pid": self._engine.pid})
            await self._engine.request_checkpoint_and_stop()
        return self._services.rest_seconds

    def _note_use(self) -> None:
        self._used_at = asyncio.get_running_loop().time()

    # -- a unit -----------------------------------------------------------------------------

    async def run(
        self, project: Project, unit: FetchedUnit, goes_on: Callable[[float], bool]
    ) -> UnitEnd | None:
        """Compute a unit, from its checkpoint if there is one; return how it ended.

        None: its files must be fetched again. `goes_on`: whether the project is next again after a
        number of seconds, so that its next unit is fetched while this one is computed.

        Raises:
            UnitStopped: the engine was stopped; the checkpoint is kept.
            WorkerUnusable: there is no engine.
            PlebError: the disk is full.
        """
        row = unit.row
        directories = project.directories(row)
        end: UnitEnd | None = None
        self._fair.begin(project)
        try:
            with self._services.cache.hold(unit.files.all()):
                if not directories.both[0].exists():  # otherwise some of it may be computed
                    self._counted[row.id] = 0.0
                metadata = self._services.journal.project(project.id).metadata
                job = project.files.lay_out(unit, directories, metadata, project.numerics)
                end = await self._run(project, row, job, goes_on)
                self._counted.pop(row.id, None)
        except _InputsDamagedError:
            project.files.discard(unit.files)
        except CorruptBlobError as error:
            _LOG.warning("fetch", extra={"problem": str(error)})
        finally:
            directories.clean_shards()
            self._note_use()
            self._fair.end(project)
        return end

    async def _run(
        self, project: Project, row: AssignmentRow, job: Job, goes_on: Callable[[float], bool]
    ) -> UnitEnd:
        runtime = self.runtime
        prefetch = _Prefetch(project, runtime, goes_on)
        capability = runtime.capability if runtime else ""
        reached = died_at = 0  # steps

        def on_progress(progress: Progress) -> None:
            nonlocal reached
            reached = progress.steps_done
            if progress.steps_done:
                self._count(project, row, progress.compute_seconds)
            self._loop.status.unit = CurrentUnit(
                project=project.name,
                assignment=row.assignment,
                kind=row.manifest.unit.kind.value,
                version=row.manifest.unit.version,
                steps_done=progress.steps_done,
                steps_total=progress.steps_total,
                loss=progress.loss,
                compute_seconds=progress.compute_seconds,
                device=self._services.device,
                capability=capability,
                id=row.id,
            )
            prefetch.consider(progress)

        self._energy.begin(self._engine.pid)
        on_progress(Progress(steps_done=0, steps_total=0, loss=None, compute_seconds=0))
        _LOG.info("train", extra={"project": project.name, "assignment": row.assignment})
        tries = row.tries
        try:
            while True:
                try:
                    result = await self._run_within_lease(row, job, on_progress)
                except DeviceRefused as error:
                    self._refuse(error)
                    return row.giving_back(str(error))
                except WorkerUnusable:
                    raise
                except WorkerError as error:
                    if self._services.clock() >= row.lease_ends_at:
                        late = "The lease ended before the unit was done."
                        return Change(row, AssignmentEvent.LEASE_ENDED, note=late)
                    # what always dies at the same step gets no further
                    before = row.tries if reached > died_at > 0 else tries
                    tries, died_at = self._tries_after(row, error, before), reached
                    if tries >= _MOST_TRIES or error.remedy is Remedy.GIVE_BACK:
                        return row.giving_back(str(error))
                else:
                    return _with_result(row, job, result)
        finally:
            self._energy.settle(project.id, row.id, self._engine.pid)
            self._loop.status.unit = None
            prefetch.close()

    def _tries_after(self, row: AssignmentRow, error: WorkerError, tries: int) -> int:
        """Return how many tries the unit has used after this failure.

        Raises:
            UnitStopped: it was no failure.
            _InputsDamagedError: a file is not what its digest says.
        """
        if isinstance(error, JobStopped):
            raise UnitStopped(str(error)) from error
        _LOG.warning(
            "train", extra={"assignment": row.assignment, "problem": str(error), "tries": tries}
        )
        if error.remedy is Remedy.GIVE_BACK:
            return tries
        self._services.journal.count_try(row.id)
        if error.remedy is Remedy.FETCH_AGAIN and tries + 1 < _MOST_TRIES:
            raise _InputsDamagedError(str(error)) from error
        return tries + 1

    async def _run_within_lease(
        self, row: AssignmentRow, job: Job, on_progress: Callable[[Progress], None]
    ) -> JobResult:
        """Run the job; stop it when its lease ends, since the unit is another host's then."""

        async def stop() -> None:
            await asyncio.sleep(max(0.0, row.lease_ends_at - self._services.clock()))
            await self._engine.request_checkpoint_and_stop()

        result: JobResult | None = None
        stopping = asyncio.create_task(stop())
        try:
            async for message in self._engine.run(job):  # to its end: it frees the engine there
                if isinstance(message, JobResult):
                    result = message
                else:
                    on_progress(message)
        finally:
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await stopping
        if result is None:
            raise WorkerUnusable("The worker ended a unit without a result; please report this.")
        return result

    def _count(self, project: Project, row: AssignmentRow, total_seconds: float) -> None:
        """Count computing time and its energy, whatever becomes of the unit.

        `total_seconds`: of the whole unit so far. The first total of a resumed unit only says
        where it is; one that fell (the worker died, an older checkpoint) is a new start.
        """
        seconds = max(0.0, total_seconds - self._counted.get(row.id, total_seconds))
        self._counted[row.id] = total_seconds
        now = self._services.clock()
        self._services.journal.count(project.id, now, compute_seconds=seconds)
        self._energy.count(project.id, row.id, self._engine.pid, seconds)
        self._fair.charge(project, seconds)


def is_time_to_prefetch(progress: Progress, fetch_seconds: float) -> bool:
    """Whether to ask now: late enough for a fresh version, with enough left to hide the fetch.

    `fetch_seconds`: how long the files of a unit took to come lately. A slow line asks earlier, so
    that they are there when the unit begins.
    """
    if not progress.steps_done:
        return False
    step_seconds = progress.compute_seconds / progress.steps_done
    needed = _FETCH_MARGIN * fetch_seconds / max(step_seconds * progress.steps_total, 1e-9)
    share = max(_PREFETCH_EARLIEST_SHARE, min(_PREFETCH_FROM_SHARE, 1.0 - needed))
    left = progress.steps_total - progress.steps_done
    return progress.steps_done >= share * progress.steps_total and (
        left * step_seconds >= _PREFETCH_LEAST_SECONDS
    )


class _Prefetch:
    """At most one request for a next unit while one is computed, then the fetch of its files."""

    def __init__(
        self, project: Project, runtime: Runtime | None, goes_on: Callable[[float], bool]
    ) -> None:
        self._project = project
        self._runtime = runtime
        self._goes_on = goes_on
        self._task: asyncio.Task[None] | None = None
        self._computed_seconds = 0.0
        self._is_answered = False
        self._is_closed = False

    def consider(self, progress: Progress) -> None:
        """Start if it is time."""
        usual = self._project.files.usual_fetch_seconds
        if self._task is None and is_time_to_prefetch(progress, usual):
            self._computed_seconds = progress.compute_seconds
            self._task = self._project.start(self._run)

    def close(self) -> None:
        """The unit has ended: a fetch can continue later, but an answer is waited for."""
        self._is_closed = True
        if self._task is not None and self._is_answered:
            self._task.cancel()

    async def _run(self) -> None:
        if self._runtime is None:
            return
        rest_seconds = self._computed_seconds * _REST_OF_UNIT
        try:
            units = await self._project.ask_ahead(
                self._runtime, lambda: self._goes_on(rest_seconds)
            )
            self._is_answered = True
            for unit in units:
                if not self._is_closed:
                    await self._project.fetch(unit)
        except PlebError as error:  # the next turn meets it again, and decides
            _LOG.info("prefetch", extra={"problem": str(error)})


def _with_result(row: AssignmentRow, job: Job, result: JobResult) -> AssignmentRow:
    """Return the row with the report of what the engine computed."""
    outcome, seconds = result.outcome, result.compute_seconds
    if not isinstance(outcome, DeltaOutcome):
        evaluated = EvaluationResult(
            metrics=outcome.metrics, examples=outcome.examples, showcase=outcome.showcase
        )
        return row.reporting(evaluated, compute_seconds=seconds)
    if not (math.isfinite(outcome.loss_first) and math.isfinite(outcome.loss_last)):
        return row.giving_back("The loss is not a number.")
    delta = DeltaResult(
        digest=outcome.digest,
        size=outcome.size,
        attached=outcome.size <= LIMITS.attached_delta_bytes,
        loss_first=outcome.loss_first,
        loss_last=outcome.loss_last,
    )
    delta_file = str(job.output_dir / outcome.file)
    return row.reporting(delta, compute_seconds=seconds, delta_file=delta_file)
