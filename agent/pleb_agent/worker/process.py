"""The agent's end of the worker: one warm child process, driven by pipes and a flag page."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.readiness import Limits
from pleb_agent.program.command import is_frozen
from pleb_agent.worker.background_scope import give_way_as_a_group
from pleb_agent.worker.child import Child
from pleb_agent.worker.errors import (
    JobStopped,
    RuntimeMissing,
    WorkerDied,
    WorkerError,
    WorkerUnusable,
)
from pleb_agent.worker.flags import Wish
from pleb_agent.worker.frames import FrameError
from pleb_agent.worker.job import (
    ERRORS,
    Failed,
    FailureKind,
    Hello,
    JobResult,
    Progress,
    Ready,
    Reply,
    Run,
)
from pleb_agent.worker.log import last_words, log_file
from pleb_agent.worker.orders import Orders
from pleb_agent.worker.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pleb_agent.worker.job import Job, LayerState, WorkerSettings
    from pleb_shared.protocol.messages import Runtime

__all__ = ["WorkerProcess"]

_LOG: Final = logging.getLogger("pleb.agent")
_START_SECONDS: Final = 180.0
_ACKNOWLEDGE_SECONDS: Final = 0.05
_POLL_SECONDS: Final = 0.002
_LAST_STEP_SECONDS: Final = 0.75
"""A suspended step that takes longer is given up when a pause gets long."""
_LEAVE_SECONDS: Final = 1.5
"""For a last step and a checkpoint when a pause gets long: the memory is free within 2 s."""
_LEAST_MEMORY_BYTES: Final = 2**20


class WorkerProcess:
    """A child process that computes one job at a time and stays warm in between.

    `run` is used by one task at a time; `pause`, `resume`, `limit` and
    `request_checkpoint_and_stop` may be called by others meanwhile. They all belong to the same
    event loop.
    """

    def __init__(self, work_dir: Path, settings: WorkerSettings) -> None:
        self.work_dir = work_dir.resolve()
        self.settings = settings
        self.layers: list[LayerState] = []
        """Which layers of the sandbox hold in the running child."""
        self.limits = Limits()
        self._grouping: asyncio.Task[None] | None = None
        self.packages: Path | None = None
        """The torch runtime of a frozen build, for processes that start later."""
        self._child: Child | None = None
        self._orders = Orders()
        self._has_job = False
        self._child_is_busy = False
        self._made_room = False
        """The child was ended to give its memory back, and not by an accident."""
        self._closed = False
        self._pace = Pace()
        self._birth = asyncio.Lock()
        """Held while a child is made, which cannot hear of any wish yet."""

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none (before start, in a long pause).

        The sensors ask in a thread of theirs.
        """
        child = self._child
        return child.pid if child is not None and child.is_alive else None

    def limit(self, limits: Limits) -> None:
        """Hold to these limits from the next step on, also in a process that starts later.

        The share of the processor holds at once. The memory is what the next process gets; one
        that runs keeps what it was started with. There is no share of a graphics processor to
        hold, since the worker computes on none.
        """
        self.limits = limits
        if self._orders.share(limits.cpu_percent) and self._child is not None:
            self._child.wake()

    async def start(self) -> Runtime:
        """Start the child, wait until it is warm, and return what it measured of itself.

        A pause holds that up too.

        Raises:
            RuntimeMissing: there is no torch to start it with yet.
            WorkerUnusable: it ended before it was ready; the message has its last words.
            JobStopped: it had to leave memory before it was ready.
        """
        await self._end_child()
        if is_frozen() and self.packages is None:
            raise RuntimeMissing("PyTorch is not installed yet; work starts once it is downloaded.")
        await self._orders.not_paused()
        self._orders.prepare(self.work_dir)
        self._closed = self._made_room = False
        settings = self._limited_settings()
        async with self._birth:
            child = self._child = await Child.spawn(self.work_dir, settings, self.packages)
            await self._hold_newborn(child)
        if settings.low_priority:
            self._grouping = asyncio.create_task(_give_way(child.pid))
        try:
            hello = Hello(work_dir=str(self.work_dir), settings=settings, parent=os.getpid())
            await child.send(hello)
            ready: Ready = await asyncio.wait_for(child.receive(Ready), _START_SECONDS)
        except (EOFError, FrameError, ConnectionError, TimeoutError) as error:
            await self._end_child()
            if self._made_room:
                raise JobStopped("The worker left memory before it was ready.") from error
            message = f"The worker does not start: {last_words(log_file(self.work_dir))}"
            raise WorkerUnusable(message) from error
        except asyncio.CancelledError:
            child.kill()
            raise
        self.layers = ready.layers
        return ready.runtime

    async def run(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Compute `job`; yields progress after steps and, last, the result.

        Goes on from the job's checkpoint if there is one. Starts the child if there is none.

        Raises:
            WorkerError: no result; `remedy` says what should become of the unit.
        """
        self._has_job = True
        self._pace = Pace()
        try:
            while True:
                async for reply in self._attempt(job):
                    yield reply
                    if isinstance(reply, JobResult):
                        return
        finally:
            self._has_job = False
            if self._child_is_busy:  # the caller gave up: nobody waits for this job any more
                self._kill()

    async def pause(self) -> None:
        """Return when the child computes no more: it acknowledged, or it was suspended.

        A pause that lasts `long_pause_seconds` puts the job away and ends the child.
        """
        if self._orders.wish is not Wish.RUN:
            return
        self._orders.set(Wish.PAUSE)
        self._orders.arm(self.settings.long_pause_seconds, self._end_long_pause)
        async with self._birth:
            pass  # who is being made is held there
        if not await self._acknowledged() and self._child is not None:
            await self._child.suspend()

    async def resume(self) -> None:
        """Let the child compute again, in a new process if the pause was long."""
        if self._orders.wish is Wish.PAUSE:
            self._orders.set(Wish.RUN)
            self._wake()

    async def request_checkpoint_and_stop(self) -> None:
        """Ask for a checkpoint after the current step; then the child leaves memory.

        A running `run` raises `JobStopped`, after `stop_seconds` at most. Ends a pause.
        """
        if not self._has_job:
            self._make_room()
        elif self._orders.wish is not Wish.CHECKPOINT_AND_STOP:
            self._orders.set(Wish.CHECKPOINT_AND_STOP)
            self._orders.arm(self.settings.stop_seconds, self._make_room)
            self._wake()

    async def close(self) -> None:
        """End the child, whatever it does; a running `run` raises `WorkerDied`."""
        self._closed = True
        self._orders.set(Wish.RUN)
        await self._end_child()
        self._orders.close()

    # -- a job ------------------------------------------------------------------------------

    async def _attempt(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Run `job` until it is finished, or put away because a pause lasts."""
        await self._orders.not_paused()
        self._check_wanted()
        try:
            if self.pid is None:
                await self.start()
            async for reply in self._replies(job):
                yield reply
        except WorkerError:
            self._check_wanted()
            if not self._made_room:
                raise

    async def _replies(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Give `job` to the child and yield what it answers.

        Raises:
            WorkerError: as the child says, or because it ended.
        """
        child = self._child
        if child is None:
            raise WorkerDied("The worker left memory; run the unit again to go on.")
        try:
            self._child_is_busy = True
            await child.send(Run(job=job))
            while isinstance(reply := await child.receive(Reply), Progress):
                self._pace.add(reply)
                yield reply
            self._child_is_busy = False
        except (EOFError, FrameError, ConnectionError) as error:
            await child.see_end()
            self._child_is_busy = False
            raise WorkerDied(child.how_it_died()) from error
        if isinstance(reply, JobResult):
            yield reply
        elif isinstance(reply, Failed):
            if reply.kind is FailureKind.STOPPED:
                self._make_room()
            raise ERRORS[reply.kind](reply.message)

    def _check_wanted(self) -> None:
        """Raise unless the job that is in hand is still wanted."""
        if self._closed:
            raise WorkerDied("The worker was closed; start it to go on.")
        if self._orders.wish is Wish.CHECKPOINT_AND_STOP:
            self._orders.set(Wish.RUN)
            raise JobStopped("The unit was put away; run it again to go on.")

    # -- wishes -----------------------------------------------------------------------------

    async def _acknowledged(self) -> bool:
        """Whether the child is seen not to compute within the time that it has for it."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _ACKNOWLEDGE_SECONDS
        while (
            self.pid is not None and self._orders.wish is Wish.PAUSE and self._orders.child_computes
        ):
            if clock() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _end_long_pause(self) -> None:
        """Let go of the memory, with a checkpoint if there is the time for one.

        A child that was suspended in the middle of a step finishes it first, if steps are short.
        """
        suspended = self._child is not None and self._child.is_suspended
        fits = not suspended or self._pace.step_seconds <= _LAST_STEP_SECONDS
        if self._child_is_busy and fits:
            self._orders.tell(Wish.CHECKPOINT_AND_STOP)
            self._orders.arm(_LEAVE_SECONDS, self._make_room)
            self._wake()
        else:
            self._make_room()

    def _make_room(self) -> None:
        """Kill the child to give its memory back; what is in hand goes on in another one."""
        self._made_room = True
        self._kill()

    def _wake(self) -> None:
        """Undo a suspension and let the child look at the flag page."""
        if self._child is not None:
            self._child.thaw()
            self._child.wake()

    # -- the child --------------------------------------------------------------------------

    async def _hold_newborn(self, child: Child) -> None:
        """Tell a new child what was wished while it was being made: it could not hear it."""
        if self._closed or self._made_room:
            child.kill()
        elif self._orders.wish is Wish.PAUSE:
            await child.suspend()

    def _limited_settings(self) -> WorkerSettings:
        given, limit = self.settings.memory_bytes, self.limits.memory_bytes
        allowed = given if limit is None else max(_LEAST_MEMORY_BYTES, min(given, limit))
        return msgspec.structs.replace(self.settings, memory_bytes=allowed)

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    async def _end_child(self) -> None:
        self._child_is_busy = False
        if self._child is not None:
            await self._child.end()


async def _give_way(pid: int) -> None:
    """Ask for a control group that gives way; the start does not wait for it."""
    outcome = await asyncio.to_thread(give_way_as_a_group, pid)
    _LOG.info("control group", extra={"worker": pid, "outcome": outcome})
