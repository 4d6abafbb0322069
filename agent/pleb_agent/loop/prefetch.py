"""Asking for the next unit while the current one trains, so that the network costs no idle time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    import asyncio
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
    """At most one request for a next unit, then the fetching of its blobs, as one errand."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Sequence[AssignmentRow]]],
        fetch: Callable[[AssignmentRow], Awaitable[object]],
        start: Callable[[Callable[[], Awaitable[None]]], asyncio.Task[None]],
    ) -> None:
        self._ask = ask
        self._fetch = fetch
        self._start = start
        self._task: asyncio.Task[None] | None = None
        self._is_answered = False
        self._is_closed = False

    def consider(self, progress: Progress) -> None:
        """Start if it is time."""
        if self._task is None and is_time(progress):
            self._task = self._start(self._run)

    def close(self) -> None:
        """The unit has ended: what is still being fetched can wait, an answer is waited for."""
        self._is_closed = True
        if self._task is not None and self._is_answered:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            units = await self._ask()
            self._is_answered = True
            for unit in units:
                if not self._is_closed:
                    await self._fetch(unit)
        except PlebError as error:  # the main path meets it again and decides
            _LOG.info("prefetch", extra={"problem": str(error)})
