"""A sleep that another thread can end: one C call to sleep, one to wake."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final

__all__ = ["Sleeper"]

_LEAST_SECONDS: Final = 0.05


class Sleeper:
    """`threading.Event` takes three times the processor time, once a second, all day."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def sleep(self, seconds: float) -> None:
        """Sleep, or return at once if `wake` was called since the last sleep."""
        self._lock.acquire(timeout=max(_LEAST_SECONDS, seconds))

    def wake(self) -> None:
        """End the sleep."""
        with suppress(RuntimeError):  # it is awake already
            self._lock.release()
