"""Network work of a session as a task that may outlast its turn.

So one project's slow or dripping coordinator never holds up another project's units: the loop
waits for an errand while there is nothing else to do, and goes on without it when there is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pleb_agent.loop.session import Session

__all__ = ["Errands", "cancel_errands", "start_errand"]

T = TypeVar("T")

_PATIENCE_SHARE: Final = 0.02
_LEAST_PATIENCE_SECONDS: Final = 0.2
_MOST_PATIENCE_SECONDS: Final = 10.0


class Errands:
    """`ended` is set when an errand ends. A run ends early when `wake` is set.

    `next_look_at` says when another session is due.
    """

    def __init__(
        self,
        wake: asyncio.Event,
        ended: asyncio.Event,
        next_look_at: Callable[[], float | None],
    ) -> None:
        self._wake = wake
        self._ended = ended
        self._next_look_at = next_look_at
        self._patience_seconds = _LEAST_PATIENCE_SECONDS
        """How long one project's network work may keep another one that is due from its turn.

        So that the shares hold also where an answer takes seconds, it is a little of what a unit
        takes: a coordinator that never ends its answer costs the others no more than that.
        """

    def learn(self, unit_seconds: float) -> None:
        """A unit took so long."""
        patience = max(_LEAST_PATIENCE_SECONDS, _PATIENCE_SHARE * unit_seconds)
        self._patience_seconds = min(patience, _MOST_PATIENCE_SECONDS)

    def start(self, session: Session, work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        """Start the session's errand, and let it go on by itself."""
        return start_errand(session, work, self._ended.set)

    async def run(self, session: Session, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do network work; None if it goes on by itself, since there is something else to do."""
        task = self.start(session, work)
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + self._patience_seconds
        while not task.done():
            look_at = self._next_look_at()
            wait = None if look_at is None else max(look_at, patient_until) - loop.time()
            if self._wake.is_set() or (wait is not None and wait <= 0):
                return None
            await _first_of(task, self._wake, wait)
        session.errand = None
        return None if task.cancelled() else task.result()

    async def look_back(self, session: Session) -> None:
        """Take the outcome of an errand that outlasted its turn: its failure, if it failed."""
        task, session.errand = session.errand, None
        if task is not None and not task.cancelled():
            task.result()


def start_errand(
    session: Session, work: Callable[[], Awaitable[T]], on_end: Callable[[], None]
) -> asyncio.Task[T]:
    """Start the session's errand, after the one that may still be under way."""
    earlier = session.errand

    async def run() -> T:
        if earlier is not None:
            await asyncio.wait({earlier})
        return await work()

    task = asyncio.create_task(run())
    task.add_done_callback(lambda _: on_end())
    session.errand = task
    return task


async def cancel_errands(sessions: Iterable[Session]) -> None:
    """Break the errands off; what matters of them is in the journal."""
    tasks = []
    for session in sessions:
        if session.errand is not None:
            tasks.append(session.errand)
            session.errand = None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _first_of(task: asyncio.Task[Any], event: asyncio.Event, seconds: float | None) -> None:
    """Return when the task is done, the event set or the time over; the task goes on."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
