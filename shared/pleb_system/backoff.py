"""How long to wait after a failure: jittered exponential, never less than what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BACKOFF", "Backoff", "Restarts"]


@dataclass(frozen=True)
class Backoff:
    """Delays that grow with the number of failures in a row.

    The n-th delay lies between half of and the whole of `first * factor ** (n - 1)`, at most
    `longest` ("equal jitter": Brooker, Exponential Backoff and Jitter, 2015), so that many
    agents that lost the same coordinator don't come back at the same moment.
    """

    first_seconds: float = 1.0
    longest_seconds: float = 600.0
    factor: float = 2.0

    def delay_seconds(
        self, failures: int, draw: float, retry_after_seconds: float | None = None
    ) -> float:
        """Return the wait before the next try.

        Args:
            failures: how many tries in a row have failed, at least 1.
            draw: a uniform random number in [0, 1).
            retry_after_seconds: what the other side asked for; a few per cent are added.
        """
        growth = self.factor ** min(failures - 1, 64)
        ceiling = min(self.longest_seconds, self.first_seconds * growth)
        own = ceiling * (0.5 + 0.5 * draw)
        if retry_after_seconds is None:
            return own
        return max(own, retry_after_seconds * (1 + 0.1 * draw))


BACKOFF = Backoff()

_READY_FAILURES: Final = 3
"""As so many failures in a row counts, at most, a process that ended soon but had been ready."""


class Restarts:
    """When a process that ended is started again: at once after a steady run, else ever later.

    One that had been ready is able to start, and its users wait for it: however often it was
    killed, it is back soon.
    """

    def __init__(self, backoff: Backoff, steady_seconds: float = 60.0) -> None:
        self._backoff = backoff
        self._steady_seconds = steady_seconds
        self._failures = 0

    def delay_seconds(self, lived_seconds: float, *, was_ready: bool = False) -> float:
        """Return the wait before the next start of a process that ran for `lived_seconds`."""
        if lived_seconds >= self._steady_seconds:
            self._failures = 0
            return 0.0
        self._failures += 1
        if was_ready:
            self._failures = min(self._failures, _READY_FAILURES)
        # No jitter: one parent restarts one child, no other parent restarts at the same moment.
        return self._backoff.delay_seconds(self._failures, draw=1.0)
