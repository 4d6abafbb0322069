"""One process that computes: its pipes, its signals and its end. `process` decides about it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

import psutil

from pleb_agent.worker.frames import encode_frame, receive_frame
from pleb_agent.worker.job import Wake
from pleb_agent.worker.launch import child_environment, group_options, worker_command
from pleb_agent.worker.log import last_words, log_file, open_log

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.worker.job import Command, Hello, WorkerSettings

__all__ = ["Child"]

_END_SECONDS: Final = 2.0
_STOP_POLL_SECONDS: Final = 0.002
_STOP_POLLS: Final = 50


class Child:
    """A started process; `is_alive` until it has ended or was killed."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._killed = False
        self.is_suspended = False

    @classmethod
    async def spawn(
        cls, work_dir: Path, settings: WorkerSettings, packages: Path | None = None
    ) -> Child:
        """Start a process in `work_dir`; its first message must be `Hello`.

        `packages`: where a frozen build's worker finds torch.
        """
        log = log_file(work_dir)
        with open_log(log) as errors:
            process = await asyncio.create_subprocess_exec(
                *worker_command(packages),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=work_dir,
                env=child_environment(os.environ, work_dir, settings),
                **group_options(),
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """The process id, also after its end."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has neither ended nor been killed."""
        return self._process.returncode is None and not self._killed

    async def send(self, message: Hello | Command) -> None:
        """Send a message.

        Raises:
            ConnectionError: the process has closed its end.
        """
        pipe = self._process.stdin
        if pipe is None:
            raise ConnectionResetError("the worker has no pipe")
        pipe.write(encode_frame(message))
        await pipe.drain()

    def wake(self) -> None:
        """Make it read the flag page; that it is dead is noticed elsewhere."""
        if self.is_alive and self._process.stdin is not None:
            self._process.stdin.write(encode_frame(Wake()))

    async def receive(self, kind: Any) -> Any:
        """Return the next message of type `kind`.

        Raises:
            EOFError: the process has ended.
            FrameError: it sent something else.
        """
        if self._process.stdout is None:
            raise EOFError
        return await receive_frame(self._process.stdout, kind)

    async def suspend(self) -> None:
        """Stop all its threads where they are; return once they have, after 100 ms at most."""
        with contextlib.suppress(psutil.NoSuchProcess):
            system = psutil.Process(self.pid)
            system.suspend()
            self.is_suspended = True
            for _ in range(_STOP_POLLS):
                if not self.is_suspended or system.status() == psutil.STATUS_STOPPED:
                    return
                await asyncio.sleep(_STOP_POLL_SECONDS)

    def thaw(self) -> None:
        """Undo a suspension."""
        if self.is_suspended:
            self.is_suspended = False
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self.pid).resume()

    def kill(self) -> None:
        """End it at once."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """End it at once, and return when it has ended."""
        self.kill()
        await self._process.wait()

    async def see_end(self) -> None:
        """Let a process whose pipe broke end by itself, so that its exit code says why."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        await self.end()

    def how_it_died(self) -> str:
        """Return a sentence with its exit code and its last words."""
        code = self._process.returncode
        words = last_words(self._log)
        return f"The worker ended in the middle of a unit (exit code {code}): {words}"
