"""What one network address may take: requests in a time, and places among connections or streams.

An address of IPv6 counts as its /64, which is what one subscriber or one LAN has. Loopback is
exempt: it is the operator's own agent, a trial, or a reverse proxy, whose requests carry the real
address (its connections do not, so a proxy has limits of its own to set).
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AddressLimit", "AddressPlaces", "subscriber"]

_MOST_ADDRESSES: Final = 50_000
"""Of rate limits, beyond which the address that was quiet longest is forgotten."""
_LONGEST_ADDRESS: Final = 64
_UNKNOWN: Final = "unknown"


def subscriber(address: str) -> str:
    """Return whom an address belongs to, or an empty text for loopback and for none."""
    # A proxy's header may say anything: what is no address counts as one, and is not remembered.
    return _owner(address) if len(address) <= _LONGEST_ADDRESS else _UNKNOWN


@functools.lru_cache(maxsize=4096)
def _owner(address: str) -> str:
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return _UNKNOWN if address else ""
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return ""
    if isinstance(parsed, IPv4Address):
        return str(parsed) if ":" in address else address
    return str(IPv6Address(int(parsed) >> 64 << 64))


class AddressLimit:
    """A token bucket for each address: `rate` requests a second, `burst` after a pause."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> float:
        """Take a token; return 0, or in how many seconds there will be one."""
        owner = subscriber(address)
        if not owner:
            return 0.0
        now = self._clock()
        tokens, since = self._buckets.pop(owner, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[owner] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait


class AddressPlaces:
    """Places that are taken for some time: `most` in all, `most_each` for one subscriber."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._each: Counter[str] = Counter()
        self.taken = 0

    def is_full(self) -> bool:
        """Whether nobody can take a place."""
        return self.taken >= self._most

    def is_full_for(self, owner: str) -> bool:
        """Whether this `subscriber` has all the places that it may have."""
        return bool(owner) and self._each[owner] >= self._most_each

    def take(self, owner: str) -> None:
        """Take a place for a `subscriber`."""
        self.taken += 1
        self._each[owner] += 1

    def give_back(self, owner: str) -> None:
        """Give back a place that this `subscriber` took."""
        self.taken -= 1
        self._each[owner] -= 1
        if not self._each[owner]:
            del self._each[owner]
