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
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._claimed: dict[tuple[str, int], float] = {}

    @override
    def _claim(self, offer: Offer) -> list[int]:
        numbers, now = super()._claim(offer), asyncio.get_running_loop().time()
        self._claimed |= {(offer.source.name, number): now for number in numbers}
        return numbers

    @override
    def _release(self, offer: Offer, numbers: list[int]) -> None:
        now = asyncio.get_running_loop().time()
        for number in numbers:
            began = self._claimed.pop((offer.source.name, number))
            if number in self._part.missing:
                WAITS.append((offer.source.name, now - began))
        super()._release(offer, numbers)


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
