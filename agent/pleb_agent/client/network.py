"""What all connections of this process share: the rates of transfers, and the proxy."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_system.proxies import NO_PROXY

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.preferences import Preferences

__all__ = ["NO_LIMITS", "Network", "RateLimit", "TokenBucket"]

_BURST_SECONDS: Final = 0.25
"""What may be sent at once after a pause, as seconds of the rate."""
_LOOK_SECONDS: Final = 1.0
"""While a transfer waits, how soon it notices that the rate has changed."""


@dataclass
class TokenBucket:
    """Tokens are bytes; they come at the rate and are taken before or after a transfer.

    More may be taken than there are: the debt is paid off by waiting (a meter as in RFC 2697).
    `at`: when `tokens` was computed, in seconds of any monotonic clock.
    """

    at: float
    tokens: float = 0.0

    def take(self, amount: int, rate: float, now: float) -> float:
        """Take `amount` bytes at `rate` bytes per second; return the seconds to wait for them."""
        came = max(0.0, now - self.at) * rate
        self.tokens = min(self.tokens + came, rate * _BURST_SECONDS) - amount
        self.at = now
        return max(0.0, -self.tokens / rate)


class RateLimit:
    """One direction of all transfers together. `rate` is called at each use: it may change.

    A debt that was made at one rate is paid off at the next, so a change takes effect in a second.
    """

    def __init__(self, rate: Callable[[], float | None]) -> None:
        self._rate = rate
        self._bucket: TokenBucket | None = None

    @property
    def rate(self) -> float | None:
        """Bytes per second; None: no limit."""
        return self._rate()

    async def take(self, amount: int) -> None:
        """Return when `amount` more bytes fit the rate."""
        rate = self.rate
        if rate is None:
            self._bucket = None
            return
        now = asyncio.get_running_loop().time()
        if self._bucket is None:
            self._bucket = TokenBucket(now)
        bucket = self._bucket
        wait = bucket.take(amount, rate, now)
        while wait > 0:
            await asyncio.sleep(min(wait, _LOOK_SECONDS))
            rate = self.rate
            if rate is None:
                return
            wait = bucket.take(0, rate, asyncio.get_running_loop().time())

    def seconds_for(self, amount: int) -> float:
        """Return how long `amount` bytes take at least, at the present rate."""
        rate = self.rate
        return 0.0 if rate is None else amount / rate


class Network:
    """`proxy` returns the preference: empty (the system's), `none`, or a proxy's address.

    All are called at each use, so that a change of preferences takes effect at once.
    """

    def __init__(
        self,
        *,
        download_rate: Callable[[], float | None],
        upload_rate: Callable[[], float | None],
        proxy: Callable[[], str],
    ) -> None:
        self.download = RateLimit(download_rate)
        self.upload = RateLimit(upload_rate)
        self.proxy = proxy

    def direct(self) -> Network:
        """Return the same network, with the same rates, but never through a proxy."""
        found = copy.copy(self)
        found.proxy = lambda: NO_PROXY
        return found

    @classmethod
    def following(cls, preferences: Callable[[], Preferences]) -> Network:
        """Return a network that follows the preferences."""
        return cls(
            download_rate=lambda: preferences().download_bytes_per_second,
            upload_rate=lambda: preferences().upload_bytes_per_second,
            proxy=lambda: preferences().proxy,
        )


NO_LIMITS = Network(download_rate=lambda: None, upload_rate=lambda: None, proxy=str)
