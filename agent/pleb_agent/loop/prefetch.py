"""Asking for the next unit while the current one trains, so that the network costs no idle time."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.worker.job import Progress

__all__ = ["Prefetch", "is_time"]

_LOG: Final = logging.getLogger("pleb.agent")
_FROM_SHARE: Final = 0.8
_LEAST_LEFT_SECONDS: Final = 2.0


def is_time(progress: Progress) -> bool:
    """Whether to ask now: late enough for a fresh version, with enough left to hide the fetch."""
    if not progress.steps_done or progress.steps_done < _FROM_SHARE * progress.steps_total:
        return False
    left = progress.steps_total - progress.steps_done
    return left * progress.compute_seconds / progress.steps_done >= _LEAST_LEFT_SECONDS


class Prefetch:
    """At most one request for a next unit, then the fetching of its blobs."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Sequence[AssignmentRow]]],
        fetch: Callable[[AssignmentRow], Awaitable[object]],
    ) -> None:
        self._ask = ask
        self._fetch = fetch
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def consider(self, progress: Progress) -> None:
        """Start if it is time."""
        if self._task is None and is_time(progress):
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Wait for the answer, so that it is known; what is still being fetched can wait."""
        if self._task is None:
            return
        await self._asked.wait()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        try:
            try:
                units = await self._ask()
            finally:
                self._asked.set()
            for unit in units:
                await self._fetch(unit)
        except PlebError as error:  # the main path meets it again and decides
            _LOG.info("prefetch", extra={"problem": str(error)})
