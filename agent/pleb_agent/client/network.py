"""What all connections of this process share: rates and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.client.rates import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.preferences import Preferences

__all__ = ["NO_LIMITS", "Network"]


class Network:
    """`proxy` returns the preference: empty (the system's), `none`, or a proxy's address.

    Everything is asked anew at each use, so that a change of preferences holds at once.
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

    @classmethod
    def following(cls, preferences: Callable[[], Preferences]) -> Network:
        """Return a network that holds to the present preferences."""
        return cls(
            download_rate=lambda: preferences().download_bytes_per_second,
            upload_rate=lambda: preferences().upload_bytes_per_second,
            proxy=lambda: preferences().proxy,
        )


def _no_rate() -> None:
    """As fast as it goes."""


NO_LIMITS = Network(download_rate=_no_rate, upload_rate=_no_rate, proxy=str)
