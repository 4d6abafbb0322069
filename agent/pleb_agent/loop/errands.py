"""Network work of a session as a task that may outlast its turn.

So one project's slow or dripping coordinator never holds up another project's units: the loop
waits for an errand while there is nothing else to do, and goes on without it when there is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pleb_agent.loop.session import Session

__all__ = ["cancel_errands", "start_errand"]

T = TypeVar("T")


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
    tasks = [session.errand for session in sessions if session.errand is not None]
    for session in sessions:
        session.errand = None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
