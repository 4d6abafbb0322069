"""The agent's end of the worker: one warm child process, driven by pipes and a flag page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pleb_agent.worker.job import Job, JobResult, LayerState, Progress, WorkerSettings
    from pleb_shared.protocol.messages import Runtime

__all__ = ["WorkerProcess"]


class WorkerProcess:
    """A child process that computes one job at a time and stays warm in between.

    `run` is used by one task at a time; `pause`, `resume` and `request_checkpoint_and_stop`
    may be called by others meanwhile. They are all coroutines of the same loop.
    """

    def __init__(self, work_dir: Path, settings: WorkerSettings) -> None:
        self.work_dir = work_dir
        self.settings = settings

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none (before start, in a long pause)."""
        raise NotImplementedError

    @property
    def layers(self) -> list[LayerState]:
        """Which layers of the sandbox hold in the running child."""
        raise NotImplementedError

    async def start(self) -> Runtime:
        """Start the child, wait until it is warm, and return what it measured of itself.

        Raises:
            WorkerUnusable: it ended before it was ready; the message has its last words.
        """
        raise NotImplementedError

    def run(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Compute `job`; yields progress after steps and, last, the result.

        Goes on from the job's checkpoint if there is one. Restarts the child after a long pause.

        Raises:
            WorkerError: no result; `remedy` says what should become of the unit.
        """
        raise NotImplementedError

    async def pause(self) -> None:
        """Return when the child computes no more: it acknowledged, or it was suspended."""
        raise NotImplementedError

    async def resume(self) -> None:
        """Let the child compute again, in a new process if the pause was long."""
        raise NotImplementedError

    async def request_checkpoint_and_stop(self) -> None:
        """Ask for a checkpoint after the current step; `run` then raises `JobStopped`."""
        raise NotImplementedError

    async def close(self) -> None:
        """End the child, whatever it does; a running `run` raises `WorkerDied`."""
        raise NotImplementedError
