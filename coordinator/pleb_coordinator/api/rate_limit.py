"""A token bucket for each network address: the cheapest of the checks."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RateLimit"]

_MOST_ADDRESSES: Final = 50_000
"""So many are remembered; the one that was quiet longest is forgotten first."""


class RateLimit:
    """Lets each address have `rate` requests a second, and `burst` at once after a pause.

    Loopback is exempt: behind it stand the operator's own agent, a reverse proxy that already
    told us the real address, and trials.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._exempt: dict[str, bool] = {}

    def take(self, address: str) -> float:
        """Take one request from the bucket; return 0, or after how many seconds one is there."""
        if self._is_exempt(address):
            return 0.0
        now = self._clock()
        tokens, since = self._buckets.pop(address, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[address] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait

    def _is_exempt(self, address: str) -> bool:
        """Whether the address is loopback (or no address: a socket file); few are remembered."""
        found = self._exempt.get(address)
        if found is None:
            found = _is_loopback(address)
            if found and len(self._exempt) < _MOST_ADDRESSES:
                self._exempt[address] = True
        return found


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return not address
