"""The agent's end of the worker: one warm child process, driven by pipes and a flag page."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pleb_agent.core.devices import CPU, PROCESSOR
from pleb_agent.core.readiness import WorkerLimits
from pleb_agent.program.command import is_frozen
from pleb_agent.worker.channel import FlagPage, FrameError, Request, State, flag_file
from pleb_agent.worker.child import Child, give_way_as_a_group, last_words, log_file
from pleb_agent.worker.errors import (
    BoundsExceeded,
    DeviceRefused,
    JobStopped,
    NumericsUnavailable,
    RuntimeMissing,
    WorkerDied,
    WorkerError,
    WorkerUnusable,
)
from pleb_agent.worker.job import (
    ERRORS,
    NO_DEVICE_EXIT,
    Bounds,
    Closed,
    Failed,
    FailureKind,
    Hello,
    JobResult,
    Progress,
    Ready,
    Reply,
    Run,
)
from pleb_agent.worker.watch import LOOK_SECONDS, excess, measure
from pleb_shared.protocol.numerics import STRICT_THREADS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pleb_agent.core.devices import FoundDevice
    from pleb_agent.worker.job import Job, LayerState, WorkerSettings
    from pleb_shared.protocol.messages import Runtime
    from pleb_shared.protocol.project import Numerics

__all__ = ["StepTime", "WorkerProcess"]

_LOG: Final = logging.getLogger("pleb.agent")
_START_SECONDS: Final = 180.0
_ACKNOWLEDGE_SECONDS: Final = 0.05
_POLL_SECONDS: Final = 0.002
_LAST_STEP_SECONDS: Final = 0.75
"""A suspended step that takes longer is dropped when a pause gets long."""
_LEAVE_SECONDS: Final = 1.5
"""For a last step and a checkpoint when a pause gets long: the memory is free within 2 s."""
_LEAST_MEMORY_BYTES: Final = 2**20


class WorkerProcess:
    """A child process that computes one job at a time and stays warm in between.

    It belongs to the folder of its first job, which is a project's, or that of a family of
    projects: for another one it is ended and started again, so that no researcher's project sees
    what another one's left in memory, nor its files. So it is for a job with other numerics, which
    are fixed when torch is loaded.
    Its `device` is the one that all its children compute on.
    `run` is used by one task at a time; `pause`, `resume`, `limit` and
    `request_checkpoint_and_stop` may be called by others meanwhile. They all belong to the same
    event loop.
    """

    def __init__(
        self, work_dir: Path, settings: WorkerSettings, device: FoundDevice = PROCESSOR
    ) -> None:
        self.work_dir = work_dir.resolve()
        self.device = device.name
        self._found = device
        self.settings = settings
        self.layers: list[LayerState] = []
        """Which layers of the sandbox hold in the running child, once it has a job."""
        self.limits = WorkerLimits()
        self._grouping: asyncio.Task[None] | None = None
        self.packages: Path | None = None
        """The torch runtime of a frozen build, for processes that start later."""
        self._child: Child | None = None
        self._runtime: Runtime | None = None
        """What the last child with native numerics measured."""
        self._numerics: Numerics = "native"
        """The child's."""
        self._belongs_to: tuple[Path, Bounds] | None = None
        """The folder that the child is closed around, and what it may take."""
        self._file_bytes: dict[str, int] = {}
        """The longest output that a job of each folder needed so far."""
        self._watching: asyncio.Task[None] | None = None
        self._excess = ""
        """What the child took beyond its bounds, for which it was ended."""
        self._page: FlagPage | None = None
        self._request = Request.RUN
        """What holds now. The page may say CHECKPOINT_AND_STOP in a long pause."""
        self._not_paused = asyncio.Event()
        self._not_paused.set()
        self._timer: asyncio.TimerHandle | None = None
        self._has_job = False
        self._child_is_busy = False
        self._gave_memory_back = False
        """The child was killed to give its memory back, not by an accident."""
        self._closed = False
        self._step_time = StepTime()
        self._started_with = settings
        self._starting = asyncio.Lock()
        """Held while a child is started, which cannot read the flag page yet."""

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none (before start, in a long pause).

        The sensors ask in a thread of theirs.
        """
        child = self._child
        return child.pid if child is not None and child.is_alive else None

    @property
    def memory_bytes(self) -> int:
        """What a unit may take of the process that runs, or else of the next one."""
        return self._allowed_bytes() if self.pid is None else self._started_with.memory_bytes

    def limit(self, limits: WorkerLimits) -> None:
        """Apply these limits from the next step on, also in a process that starts later.

        The device's share applies at once. The memory is what the next process gets; one that
        runs keeps what it was started with.
        """
        changed = limits.share_percent != self.limits.share_percent
        self.limits = limits
        if self._page is not None:
            self._page.share_percent = limits.share_percent
        if changed and self._child is not None:
            self._child.wake()

    @property
    def is_paused(self) -> bool:
        """Whether a pause holds now."""
        return self._request is Request.PAUSE

    async def start(self) -> Runtime:
        """Start a child with native numerics, and return what it measured of itself when warm.

        A pause delays that too.

        Raises:
            RuntimeMissing: there is no torch to start it with yet, or none for its device.
            WorkerUnusable: it ended before it was ready; the message has its last words.
            JobStopped: it had to leave memory before it was ready.
        """
        self._runtime = await self._start("native")
        return self._runtime

    async def _start_for(self, job: Job) -> None:
        """Start a child that can compute `job`.

        Raises:
            NumericsUnavailable: this PC cannot compute in the job's numerics.
            WorkerError: as `start`.
        """
        runtime = self._runtime
        if job.numerics == "native" or runtime is None:
            runtime = await self.start()
        if job.numerics != "native":
            if reason := runtime.lacks(job.numerics):
                raise NumericsUnavailable(reason)
            await self._start(job.numerics)

    def _allowed_bytes(self) -> int:
        given, limit = self.settings.memory_bytes, self.limits.memory_bytes
        return given if limit is None else max(_LEAST_MEMORY_BYTES, min(given, limit))

    async def _start(self, numerics: Numerics) -> Runtime:
        await self._end_child()
        if is_frozen() and self.packages is None:
            raise self._no_runtime()
        await self._not_paused.wait()
        self.work_dir.mkdir(parents=True, exist_ok=True)
        if self._page is None:
            self._page = FlagPage.create(flag_file(self.work_dir))
        # To get warm is to compute too: a pause must see that, and suspend.
        self._page.state, self._page.request = State.COMPUTING, self._request
        self._page.share_percent = self.limits.share_percent
        self._closed = self._gave_memory_back = False
        self._belongs_to, self.layers, self._excess = None, [], ""
        self._numerics = numerics
        threads = STRICT_THREADS if numerics == "strict" else self.settings.threads
        settings = replace(self.settings, memory_bytes=self._allowed_bytes(), threads=threads)
        self._started_with = settings
        async with self._starting:
            child = self._child = await Child.spawn(
                self.work_dir, settings, numerics, self.packages, self._found
            )
            _LOG.info("worker starts", extra={"pid": child.pid, "numerics": numerics})
            # What was requested meanwhile could not reach the child.
            if self._closed or self._gave_memory_back:
                child.kill()
            elif self.is_paused:
                await child.suspend()
        if settings.low_priority:
            self._grouping = asyncio.create_task(_give_way(child.pid, settings, self.device))
        try:
            hello = Hello(
                work_dir=str(self.work_dir),
                settings=settings,
                parent=os.getpid(),
                numerics=numerics,
                device=self.device,
                nodes=list(self._found.nodes),
            )
            await child.send(hello)
            ready: Ready = await asyncio.wait_for(child.receive(Ready), _START_SECONDS)
        except (EOFError, FrameError, ConnectionError, TimeoutError) as error:
            raise await self._why_not_started(child, error) from error
        except asyncio.CancelledError:
            child.kill()
            raise
        return ready.runtime

    def _no_runtime(self) -> RuntimeMissing:
        if self.device == CPU:
            return RuntimeMissing(
                "PyTorch is not installed yet; work starts once it is downloaded."
            )
        return RuntimeMissing(
            "PyTorch for this card is not installed; the agent's page offers it, with its size."
        )

    async def _why_not_started(self, child: Child, error: Exception) -> WorkerError:
        """End the child, and return what its end means."""
        if isinstance(error, EOFError):
            await child.see_end()
        await self._end_child()
        if self._gave_memory_back:
            return JobStopped("The worker left memory before it was ready.")
        words = last_words(log_file(self.work_dir))
        if child.exit_code == NO_DEVICE_EXIT:
            return RuntimeMissing(words)
        return WorkerUnusable(f"The worker does not start: {words}")

    async def run(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Compute `job`; yields progress after steps and, last, the result.

        Resumes from the job's checkpoint if there is one. Starts the child if there is none, or if
        it is another folder's.

        Raises:
            WorkerError: no result; `remedy` says what should become of the unit.
        """
        self._has_job = True
        self._step_time = StepTime()
        # A family's models differ in size: one process with room for the longest serves them all.
        longest = max(job.file_bytes, self._file_bytes.get(job.folder, 0))
        self._file_bytes[job.folder] = longest
        job = replace(job, file_bytes=longest)
        try:
            while True:
                async for reply in self._attempt(job):
                    yield reply
                    if isinstance(reply, JobResult):
                        return
        finally:
            self._has_job = False
            if self._child_is_busy and self._child is not None:
                self._child.kill()  # the caller has stopped waiting for this job

    async def pause(self) -> None:
        """Return when the child computes no more: it acknowledged, or it was suspended.

        A pause that lasts `long_pause_seconds` stops the job and ends the child.
        """
        if self._request is not Request.RUN:
            return
        self._set_request(Request.PAUSE)
        self._start_timer(self.settings.long_pause_seconds, self._end_long_pause)
        async with self._starting:
            pass  # a child that is being started is suspended there
        if not await self._acknowledged() and self._child is not None:
            await self._child.suspend()

    async def resume(self) -> None:
        """Let the child compute again, in a new process if the pause was long."""
        if self.is_paused:
            self._set_request(Request.RUN)
            self._wake()

    async def request_checkpoint_and_stop(self) -> None:
        """Ask for a checkpoint after the current step; then the child leaves memory.

        A running `run` raises `JobStopped`, after `stop_seconds` at most. Ends a pause.
        """
        if not self._has_job:
            self._give_memory_back()
        elif self._request is not Request.CHECKPOINT_AND_STOP:
            self._set_request(Request.CHECKPOINT_AND_STOP)
            self._start_timer(self.settings.stop_seconds, self._give_memory_back)
            self._wake()

    async def close(self) -> None:
        """End the child, whatever it does; a running `run` raises `WorkerDied`."""
        self._closed = True
        self._set_request(Request.RUN)
        await self._end_child()
        self._set_request(Request.RUN)
        if self._page is not None:
            self._page.close()
            self._page = None

    # -- a job ------------------------------------------------------------------------------

    async def _attempt(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Run `job` until it is finished, or stopped because a pause lasts."""
        await self._not_paused.wait()
        self._check_wanted()
        try:
            if self.pid is None or not self._may_take(job):
                await self._start_for(job)
            async for reply in self._replies(job):
                yield reply
        except WorkerError:
            self._check_wanted()
            if not self._gave_memory_back:
                raise

    async def _replies(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Send `job` to the child and yield what it answers.

        Raises:
            WorkerError: as the child says, or because it ended.
        """
        child = self._child
        if child is None:
            raise WorkerDied("The worker left memory; run the unit again to resume.")
        try:
            self._child_is_busy = True
            if self._belongs_to is None:
                bounds = Bounds.of(self._started_with, job.file_bytes, self.device)
                self._belongs_to = Path(job.folder), bounds
            await child.send(Run(job=job))
            while isinstance(reply := await child.receive(Reply), Progress | Closed):
                if isinstance(reply, Closed):
                    self._closed_sandbox(child, reply.layers)
                    continue
                self._step_time.add(reply)
                yield reply
            self._child_is_busy = False
        except (EOFError, FrameError, ConnectionError) as error:
            await child.see_end()
            self._child_is_busy = False
            if self._excess:
                raise BoundsExceeded(self._excess) from error
            if child.exit_code == NO_DEVICE_EXIT:  # its driver does not start in the sandbox
                raise DeviceRefused(last_words(log_file(self.work_dir))) from error
            raise WorkerDied(child.how_it_died()) from error
        if isinstance(reply, JobResult):
            yield reply
        elif isinstance(reply, Failed):
            await self._clear_after(reply)
            raise ERRORS[reply.kind](reply.message)

    async def _clear_after(self, failed: Failed) -> None:
        """End the child if it is to end, or ends itself."""
        if failed.kind is FailureKind.STOPPED:
            self._give_memory_back()
        elif failed.kind is FailureKind.STEP_TOO_LONG or (
            # After an error of a card's kernel every later call in that process fails.
            failed.kind is FailureKind.UNIT_FAILED and self.device != CPU
        ):
            await self._end_child()

    def _may_take(self, job: Job) -> bool:
        """Whether the child may take this job: it is of its folder, or it never had one."""
        if self._numerics != job.numerics:
            return False
        if self._belongs_to is None:
            return True
        folder, bounds = self._belongs_to
        return folder == Path(job.folder) and job.file_bytes <= bounds.file_bytes

    def _closed_sandbox(self, child: Child, layers: list[LayerState]) -> None:
        """Remember what holds, log what does not; from now on a stranger may be in there."""
        self.layers = layers
        self._watching = asyncio.create_task(self._watch(child))
        for layer in layers:
            if not layer.holds:
                _LOG.warning("sandbox", extra={"layer": layer.layer, "problem": layer.sentence})

    async def _watch(self, child: Child) -> None:
        """End the child if it takes more than it may."""
        if self._belongs_to is None:
            return
        folder, bounds = self._belongs_to
        log, idle = log_file(self.work_dir), None
        with suppress(ProcessLookupError):
            while child.is_alive:
                usage = await asyncio.to_thread(measure, child.pid, folder, log)
                idle = idle or usage
                if sentence := excess(usage, idle, bounds):
                    _LOG.error("worker", extra={"problem": sentence})
                    self._excess = sentence
                    child.kill()
                await asyncio.sleep(LOOK_SECONDS)

    def _check_wanted(self) -> None:
        """Raise unless the current job is still wanted."""
        if self._closed:
            raise WorkerDied("The worker was closed; start it to resume.")
        if self._request is Request.CHECKPOINT_AND_STOP:
            self._set_request(Request.RUN)
            raise JobStopped("The unit was stopped; run it again to resume.")

    # -- requests ---------------------------------------------------------------------------

    def _set_request(self, request: Request) -> None:
        """Let this hold from now on, without a time limit."""
        self._stop_timer()
        self._request = request
        if self._page is not None:
            self._page.request = request
        if request is Request.PAUSE:
            self._not_paused.clear()
        else:
            self._not_paused.set()

    def _start_timer(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` after this time, unless something else is requested before."""
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _acknowledged(self) -> bool:
        """Return whether the child says in time that it does not compute."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _ACKNOWLEDGE_SECONDS
        while self.pid is not None and self.is_paused:
            if self._page is None or self._page.state is not State.COMPUTING:
                break
            if clock() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _end_long_pause(self) -> None:
        """Give the memory back, with a checkpoint if there is time for one.

        A child that was suspended in the middle of a step finishes it first, if steps are short.
        """
        suspended = self._child is not None and self._child.is_suspended
        fits = not suspended or self._step_time.seconds <= _LAST_STEP_SECONDS
        if self._child_is_busy and fits and self._page is not None:
            self._page.request = Request.CHECKPOINT_AND_STOP  # the pause itself still holds
            self._start_timer(_LEAVE_SECONDS, self._give_memory_back)
            self._wake()
        else:
            self._give_memory_back()

    def _give_memory_back(self) -> None:
        """Kill the child to give its memory back; the current job resumes in another one."""
        self._gave_memory_back = True
        if self._child is not None:
            self._child.kill()

    def _wake(self) -> None:
        """Undo a suspension and let the child look at the flag page."""
        if self._child is not None:
            self._child.thaw()
            self._child.wake()

    # -- the child --------------------------------------------------------------------------

    async def _end_child(self) -> None:
        self._child_is_busy = False
        if self._watching is not None:
            self._watching.cancel()
        if self._child is not None:
            await self._child.end()


class StepTime:
    """How long a step takes, between the last two `Progress` messages of one job."""

    def __init__(self) -> None:
        self._steps = 0
        self._seconds = 0.0
        self.seconds = math.inf
        """Of computing time; infinite while nothing is known."""

    def add(self, progress: Progress) -> None:
        """Take in one message."""
        steps = progress.steps_done - self._steps
        if steps > 0:
            self.seconds = (progress.compute_seconds - self._seconds) / steps
        self._steps, self._seconds = progress.steps_done, progress.compute_seconds


async def _give_way(pid: int, settings: WorkerSettings, device: str) -> None:
    """Ask for a control group of low weight; the start does not wait for it."""
    outcome = await asyncio.to_thread(give_way_as_a_group, pid, settings, device=device)
    _LOG.info("control group", extra={"worker": pid, "outcome": outcome})
