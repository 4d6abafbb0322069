"""What the loop is given from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readiness import Limits
    from pleb_agent.worker.job import Job, JobResult, Progress
    from pleb_shared.protocol.messages import Runtime

__all__ = ["Clock", "CurrentPreferences", "Draw", "Engine"]

Clock = Callable[[], float]
"""Seconds since 1970 on this host."""
Draw = Callable[[], float]
"""A uniform random number in [0, 1)."""
CurrentPreferences = Callable[[], "Preferences"]
"""What the user allows now; asked anew each time, since it may have changed."""


class Engine(Protocol):
    """What computes units: `worker.process.WorkerProcess`, or a fake with the same contract."""

    @property
    def pid(self) -> int | None:
        """The process id; None while there is none."""

    def limit(self, limits: Limits) -> None:
        """Hold to these limits from the next step on, also in a process that starts later."""

    async def start(self) -> Runtime:
        """Get warm; return what decides about rounding."""

    def run(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Compute; the last value is the result. Raises a `WorkerError` instead of one."""

    async def pause(self) -> None:
        """Hold still."""

    async def resume(self) -> None:
        """Go on."""

    async def request_checkpoint_and_stop(self) -> None:
        """Make `run` raise `JobStopped` after a checkpoint."""

    async def close(self) -> None:
        """End the process."""
