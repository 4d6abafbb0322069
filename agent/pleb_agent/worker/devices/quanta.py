"""Bounds the work that waits in a device's queue, so that a suspended process stops computing.

A card computes what was queued whatever becomes of the process. So the process waits for the queue
before it holds more than a quantum of work: when it is suspended, the card is free soon after.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["QUANTUM_SECONDS", "Quanta"]

QUANTUM_SECONDS: Final = 0.04
"""With the 50 ms after which the agent suspends a worker that does not answer, under 100 ms."""


class Quanta:
    """Learns how long each part of a step takes, and waits before they are more than a quantum.

    Every step of a unit has the same parts in the same order, so a part is known by its place. Of
    the first step each is waited for. One part alone may take longer than a quantum; nothing can
    divide it.
    """

    def __init__(
        self,
        synchronize: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        quantum_seconds: float = QUANTUM_SECONDS,
    ) -> None:
        self._synchronize = synchronize
        self._clock = clock
        self._quantum_seconds = quantum_seconds
        self._costs: list[float] = []
        """Seconds of each part, by its place in the step."""
        self._place = 0
        self._first = 0
        """The first part that was not waited for."""
        self._expected_seconds = 0.0
        """Of the parts from there on."""
        self._began_at: float | None = None
        """When the first of them was queued."""
        self._busy_seconds = 0.0

    def part_done(self) -> None:
        """Count one more part that was queued; wait for all of them when they are a quantum."""
        if self._began_at is None:
            self._began_at = self._clock()
        costs, place = self._costs, self._place
        self._place = place + 1
        if place >= len(costs):
            self._wait()
            return
        self._expected_seconds += costs[place]
        is_last_known = place + 1 == len(costs)
        if is_last_known or self._expected_seconds + costs[place + 1] > self._quantum_seconds:
            self._wait()

    def finish(self) -> None:
        """Return when the queue is empty: the step has ended."""
        self._wait()
        self._place = self._first = 0

    def forget(self) -> None:
        """Other steps come."""
        self._costs.clear()

    def resumed(self) -> None:
        """Do not count the time before this moment: the process was suspended."""
        if self._began_at is not None:
            self._began_at = self._clock()

    def busy_seconds(self) -> float:
        """Return for how long there was work in the queue so far."""
        began_at = self._began_at
        return self._busy_seconds + (0.0 if began_at is None else self._clock() - began_at)

    def _wait(self) -> None:
        self._synchronize()
        if self._began_at is None:
            return
        seconds = max(0.0, self._clock() - self._began_at)
        self._busy_seconds += seconds
        self._learn(seconds)
        self._first, self._expected_seconds, self._began_at = self._place, 0.0, None

    def _learn(self, seconds: float) -> None:
        """Share the time out to the parts that it went to."""
        first, stop = self._first, self._place
        if stop > len(self._costs):
            self._costs.append(seconds)
        elif self._expected_seconds > 0:
            ratio = seconds / self._expected_seconds
            self._costs[first:stop] = [cost * ratio for cost in self._costs[first:stop]]
        elif stop > first:
            self._costs[first:stop] = [seconds / (stop - first)] * (stop - first)
