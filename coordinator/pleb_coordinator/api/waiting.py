"""Waiting for the store to change: hosts without work (long-poll) and open pages (SSE).

One task polls the store, a few microseconds each time, and only while something waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.store.transaction import Store

__all__ = ["Changes"]

POLL_SECONDS: Final = 0.05


class Changes:
    """Wakes all waiters after a commit of any process."""

    def __init__(self, store: Store, *, most_waiters: int) -> None:
        self._store = store
        self._most = most_waiters
        self._waiting: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._changes = 0
        self.places_taken = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[bool]:
        """Take a long-poll's place for the duration of the context; False: all are taken."""
        if self.places_taken >= self._most:
            yield False
            return
        self.places_taken += 1
        try:
            yield True
        finally:
            self.places_taken -= 1

    def now(self) -> int:
        """Return a number that grows with every change; ask for it before looking at the store."""
        if self._store.changed():
            self.wake_all()
        return self._changes

    async def after(self, seen: int, seconds: float) -> bool:
        """Wait for a change after `seen` (of `now`); False: `seconds` went by without one."""
        if self.now() != seen:
            return True
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True

    def wake_all(self) -> None:
        """Wake all waiters: something has changed, or the process is stopping."""
        self._changes += 1
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def _watch(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            self.now()
