"""Tells any number of listeners that something changed, at a bounded pace and without a tick."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Bell"]

_LEAST_SECONDS: Final = 0.25

T = TypeVar("T")
"""Never None: that stands for what was not told yet."""


class Bell:
    """`ring` may be called at any rate; each listener hears at most four times a second."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()
        self._closed = False

    def ring(self) -> None:
        """Something changed."""
        for listener in self._listeners:
            listener.set()

    def close(self) -> None:
        """End every listener's iteration."""
        self._closed = True
        self.ring()

    async def values(self, read: Callable[[], T]) -> AsyncIterator[T]:
        """Yield what `read` returns, now and after each ring; equal values are told once."""
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            told = None
            while not self._closed:
                event.clear()
                value = read()
                if value != told:
                    told = value
                    yield value
                await event.wait()
                await asyncio.sleep(_LEAST_SECONDS)
        finally:
            self._listeners.discard(event)
