"""Wakes any number of listeners when something changed, at a bounded pace and without a tick."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["ChangeNotifier"]

_LEAST_SECONDS: Final = 0.25

T = TypeVar("T")
"""Never None, which stands for "nothing yet"."""


class ChangeNotifier:
    """`notify` may be called at any rate; each listener gets at most four values a second."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()
        self._closed = False

    def notify(self) -> None:
        """Something changed."""
        for listener in self._listeners:
            listener.set()

    def close(self) -> None:
        """End every listener's iteration."""
        self._closed = True
        self.notify()

    async def values(self, read: Callable[[], T]) -> AsyncIterator[T]:
        """Yield what `read` returns, now and after each change, without repeating a value."""
        changed = asyncio.Event()
        self._listeners.add(changed)
        try:
            last = None
            while not self._closed:
                changed.clear()
                value = read()
                if value != last:
                    last = value
                    yield value
                await changed.wait()
                await asyncio.sleep(_LEAST_SECONDS)
        finally:
            self._listeners.discard(changed)
