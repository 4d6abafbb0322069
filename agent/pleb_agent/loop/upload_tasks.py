"""The uploads under way, one task each; they run beside everything else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.agent_state import AssignmentState
    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.session import Session
    from pleb_agent.loop.uploads import Uploads

__all__ = ["UploadTasks"]


class UploadTasks:
    """Starts uploads and tells when each has ended."""

    def __init__(
        self, uploads: Uploads, on_end: Callable[[Session, AssignmentRow, AssignmentState], None]
    ) -> None:
        self._uploads = uploads
        self._on_end = on_end
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._projects: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, session: Session, row: AssignmentRow) -> None:
        """Start a row's upload unless it runs already."""
        if row.id not in self._tasks:
            self._tasks[row.id] = asyncio.create_task(self._run(session, row))
            self._projects[row.id] = row.project

    def failure(self) -> BaseException | None:
        """Return what ended a task against all expectation, for instance a full journal."""
        for number, task in list(self._tasks.items()):
            if task.done() and not task.cancelled() and task.exception() is not None:
                del self._tasks[number]
                return task.exception()
        return None

    async def cancel(self, project: int | None = None) -> None:
        """Break uploads off, of one project or all; their tokens are in the journal."""
        numbers = [n for n in self._tasks if project in {None, self._projects[n]}]
        tasks = [self._tasks.pop(number) for number in numbers]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self, session: Session, row: AssignmentRow) -> None:
        state = await self._uploads.upload(session, row)
        self._tasks.pop(row.id, None)
        self._on_end(session, row, state)
