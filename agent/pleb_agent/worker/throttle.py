"""The share of the processor's time: a worker that has used more rests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Throttle"]

_LEAST_REST_SECONDS: Final = 0.02
"""Short steps run together up to this debt: fewer wake-ups, and idle processors sleep deeper."""
_MOST_CREDIT_SECONDS: Final = 0.1
"""Unused time is made up for to this extent: enough for late wake-ups, too little for a burst."""


class Throttle:
    """Compares the processor time of this process with its share of the time gone by.

    Time in which the process was paused, suspended or crowded out counts as time not used.
    """

    def __init__(
        self,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._threads = threads
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._percent = 100
        self._since = clock()
        self._used_before = cpu_clock()

    def rest_seconds(self, percent: int) -> float:
        """Return how long to rest now to keep to `percent` (1 to 100) of the threads' time; 0: not.

        A new percentage applies from now on: no old debt, no old credit.
        """
        now, used = self._clock(), self._cpu_clock()
        if percent != self._percent or percent >= 100:
            self._percent, self._since, self._used_before = percent, now, used
            return 0.0
        wanted = (used - self._used_before) / (self._threads * percent / 100)
        debt = wanted - (now - self._since)
        if debt < -_MOST_CREDIT_SECONDS:
            self._since, self._used_before = now - _MOST_CREDIT_SECONDS, used
        return debt if debt >= _LEAST_REST_SECONDS else 0.0
