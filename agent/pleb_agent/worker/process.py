"""The agent's end of the worker: one warm child process, driven by pipes and a flag page."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

import psutil

from pleb_agent.core.readiness import Limits
from pleb_agent.worker.errors import JobStopped, WorkerDied, WorkerUnusable
from pleb_agent.worker.flags import FlagPage, State, Wish, flag_file
from pleb_agent.worker.frames import FrameError, encode_frame, receive_frame
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
    Wake,
)
from pleb_agent.worker.launch import COMMAND, child_environment, group_options
from pleb_agent.worker.log import last_words, log_file, open_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pleb_agent.worker.job import Command, Job, LayerState, WorkerSettings
    from pleb_shared.protocol.messages import Runtime

__all__ = ["WorkerProcess"]

_START_SECONDS: Final = 180.0
_ACKNOWLEDGE_SECONDS: Final = 0.05
_POLL_SECONDS: Final = 0.002
_END_SECONDS: Final = 2.0
_STOP_POLLS: Final = 50


class WorkerProcess:
    """A child process that computes one job at a time and stays warm in between.

    `run` is used by one task at a time; `pause`, `resume` and `request_checkpoint_and_stop`
    may be called by others meanwhile. They are all coroutines of the same loop.
    """

    def __init__(self, work_dir: Path, settings: WorkerSettings) -> None:
        self.work_dir = work_dir.resolve()
        self.settings = settings
        self.layers: list[LayerState] = []
        """Which layers of the sandbox hold in the running child."""
        self.limits = Limits()
        self._child: asyncio.subprocess.Process | None = None
        self._page: FlagPage | None = None
        self._wish = Wish.RUN
        self._not_paused = asyncio.Event()
        self._not_paused.set()
        self._has_job = False
        self._child_is_busy = False
        self._suspended = False
        self._killed = False
        self._made_room = False
        """A long pause has ended the child, and not an accident."""
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none (before start, in a long pause)."""
        child = self._child
        alive = child is not None and child.returncode is None and not self._killed
        return child.pid if alive and child is not None else None

    def limit(self, limits: Limits) -> None:
        """Hold to these limits from the next step on, also in a process that starts later."""
        self.limits = limits

    async def start(self) -> Runtime:
        """Start the child, wait until it is warm, and return what it measured of itself.

        Raises:
            WorkerUnusable: it ended before it was ready; the message has its last words.
        """
        await self._end_child()
        page = self._open_page()
        page.state, page.wish = State.IDLE, self._wish
        self._closed = self._killed = self._made_room = False
        self._child = await self._spawn()
        try:
            hello = Hello(work_dir=str(self.work_dir), settings=self.settings, parent=os.getpid())
            await self._send(hello)
            ready: Ready = await asyncio.wait_for(self._receive(Ready), _START_SECONDS)
        except (EOFError, FrameError, ConnectionError, TimeoutError) as error:
            await self._end_child()
            message = f"The worker does not start: {last_words(log_file(self.work_dir))}"
            raise WorkerUnusable(message) from error
        except asyncio.CancelledError:
            self._kill()
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
        if self._wish is not Wish.RUN:
            return
        self._set_wish(Wish.PAUSE)
        self._arm(self.settings.long_pause_seconds, self._end_long_pause)
        if not await self._acknowledged():
            await self._suspend()

    async def resume(self) -> None:
        """Let the child compute again, in a new process if the pause was long."""
        if self._wish is not Wish.PAUSE:
            return
        self._disarm()
        self._set_wish(Wish.RUN)
        self._thaw()

    async def request_checkpoint_and_stop(self) -> None:
        """Ask for a checkpoint after the current step; `run` then raises `JobStopped`.

        Ends a pause. Without a running job nothing happens.
        """
        if self._has_job:
            self._set_wish(Wish.CHECKPOINT_AND_STOP)
            self._arm(self.settings.stop_seconds, self._kill)
            self._thaw()

    async def close(self) -> None:
        """End the child, whatever it does; a running `run` raises `WorkerDied`."""
        self._disarm()
        self._closed = True
        self._set_wish(Wish.RUN)
        await self._end_child()
        if self._page is not None:
            self._page.close()
            self._page = None

    async def _attempt(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Run `job` until it is finished, or put away because a pause lasts."""
        await self._not_paused.wait()
        self._check_wanted()
        if self.pid is None:
            await self.start()
        try:
            self._child_is_busy = True
            await self._send(Run(job=job))
            while isinstance(reply := await self._receive(Reply), Progress):
                yield reply
            self._child_is_busy = False
        except (EOFError, FrameError, ConnectionError) as error:
            await self._see_child_end()
            self._check_wanted()
            if self._made_room:
                return
            raise WorkerDied(self._how_it_died()) from error
        if isinstance(reply, JobResult):
            yield reply
        elif isinstance(reply, Failed):
            await self._put_away(reply)

    async def _put_away(self, failed: Failed) -> None:
        """Raise what the child says, unless it says that it made room for a long pause."""
        if failed.kind is not FailureKind.STOPPED:
            raise ERRORS[failed.kind](failed.message)
        self._check_wanted()
        await self._end_child()

    def _check_wanted(self) -> None:
        """Raise unless the job that is in hand is still wanted."""
        if self._closed:
            raise WorkerDied("The worker was closed; start it to go on.")
        if self._wish is Wish.CHECKPOINT_AND_STOP:
            self._disarm()
            self._set_wish(Wish.RUN)
            raise JobStopped("The unit was put away; run it again to go on.")

    def _end_long_pause(self) -> None:
        """Let go of the memory: after a checkpoint if the child stands between two steps."""
        page = self._page
        if self._child_is_busy and not self._suspended and page is not None:
            page.wish = Wish.CHECKPOINT_AND_STOP
            self._wake()
        else:
            self._made_room = True
            self._kill()

    async def _acknowledged(self) -> bool:
        """Whether the child is seen not to compute within the time that it has for it."""
        deadline = asyncio.get_running_loop().time() + _ACKNOWLEDGE_SECONDS
        while self.pid is not None and self._page is not None:
            if self._wish is not Wish.PAUSE or self._page.state is not State.COMPUTING:
                return True
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _suspend(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            process.suspend()
            self._suspended = True
            for _ in range(_STOP_POLLS):
                if not self._suspended or process.status() == psutil.STATUS_STOPPED:
                    return
                await asyncio.sleep(_POLL_SECONDS)

    def _thaw(self) -> None:
        """Undo a suspension and let the child look at the flag page."""
        if self._suspended:
            self._suspended = False
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self.pid).resume()
        self._wake()

    def _set_wish(self, wish: Wish) -> None:
        self._wish = wish
        if self._page is not None:
            self._page.wish = wish
        if wish is Wish.PAUSE:
            self._not_paused.clear()
        else:
            self._not_paused.set()

    def _arm(self, seconds: float, act: Callable[[], None]) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, act)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open_page(self) -> FlagPage:
        self.work_dir.mkdir(parents=True, exist_ok=True)
        if self._page is None:
            self._page = FlagPage.create(flag_file(self.work_dir))
        return self._page

    async def _spawn(self) -> asyncio.subprocess.Process:
        with open_log(log_file(self.work_dir)) as log:
            return await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self.work_dir,
                env=child_environment(os.environ, self.work_dir, self.settings),
                **group_options(),
            )

    async def _send(self, message: Hello | Command) -> None:
        pipe = self._child.stdin if self._child is not None else None
        if pipe is None:
            raise ConnectionResetError("there is no worker")
        pipe.write(encode_frame(message))
        await pipe.drain()

    def _wake(self) -> None:
        """Send `Wake` if there is a child; a dead one shows itself elsewhere."""
        if self.pid is not None and self._child is not None and self._child.stdin is not None:
            self._child.stdin.write(encode_frame(Wake()))

    async def _receive(self, kind: Any) -> Any:
        pipe = self._child.stdout if self._child is not None else None
        if pipe is None:
            raise EOFError
        return await receive_frame(pipe, kind)

    def _kill(self) -> None:
        self._killed = True
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    async def _end_child(self) -> None:
        self._kill()
        self._child_is_busy = self._suspended = False
        if self._child is not None:
            await self._child.wait()

    async def _see_child_end(self) -> None:
        """Let a child whose pipe broke end by itself, so that its exit code tells why."""
        if self._child is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), _END_SECONDS)
        await self._end_child()

    def _how_it_died(self) -> str:
        code = self._child.returncode if self._child is not None else None
        words = last_words(log_file(self.work_dir))
        return f"The worker ended in the middle of a unit (exit code {code}): {words}"
