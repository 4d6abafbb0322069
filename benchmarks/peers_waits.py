"""How long parts of blobs waited for each source: the fetches of a host measure themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from pleb_agent.blobs import fetcher
from pleb_agent.blobs.fetch import BlobFetch
from pleb_agent.lan import peer_blobs
from pleb_agent.lan.peer_source import PeerSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.blobs.source import Offer
    from pleb_shared.protocol.unit import Blob

__all__ = ["WAITS", "Waits", "quantile", "watch_waits"]

Waits = list[tuple[str, float]]
"""The source's name, and the seconds for which a part, or leaves, were left to it in vain."""
WAITS: Final[Waits] = []


class _WatchedFetch(BlobFetch):
    """Notes for how long a part is left to one source alone, without the coordinator's own work.

    While the coordinator sends other parts, the host does not wait for that source.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._claimed: dict[tuple[str, int], float] = {}
        self._began: float | None = None
        self._busy_seconds = 0.0

    def _idle_time(self) -> float:
        """Return a time that stands still while the coordinator sends."""
        now = asyncio.get_running_loop().time()
        return (now if self._began is None else self._began) - self._busy_seconds

    @override
    def _claim(self, offer: Offer) -> list[int]:
        numbers = super()._claim(offer)
        for number in numbers:
            for name, other in [pair for pair in self._claimed if pair[1] == number]:
                self._waited(name, other)  # somebody else brings it from now on
            self._claimed[offer.source.name, number] = self._idle_time()
        if numbers and self._is_last(offer):
            self._began = asyncio.get_running_loop().time()
        return numbers

    @override
    def _release(self, offer: Offer, numbers: list[int]) -> None:
        if self._is_last(offer) and self._began is not None:
            self._busy_seconds += asyncio.get_running_loop().time() - self._began
            self._began = None
        for number in numbers:
            self._waited(offer.source.name, number)
        super()._release(offer, numbers)

    def _waited(self, name: str, number: int) -> None:
        began = self._claimed.pop((name, number), None)
        if began is not None and number in self._part.missing:
            WAITS.append((name, self._idle_time() - began))


class _WatchedSource(PeerSource):
    @override
    async def leaves(self, blob: Blob) -> bytes:
        began = asyncio.get_running_loop().time()
        try:
            return await super().leaves(blob)
        except (Exception, asyncio.CancelledError):
            WAITS.append((self.name, asyncio.get_running_loop().time() - began))
            raise


def watch_waits() -> None:
    """Let all fetches of this process fill `WAITS`."""
    vars(fetcher)["BlobFetch"] = _WatchedFetch
    vars(peer_blobs)["PeerSource"] = _WatchedSource


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least value that `share` of them do not exceed; 0: there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
