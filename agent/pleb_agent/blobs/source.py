"""What can send a blob's bytes. None is trusted: each part is checked by whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from pleb_agent.client.http import HttpClient
    from pleb_shared.protocol.unit import Blob

__all__ = ["HttpSource", "Offer", "Source", "SourceKind"]


class SourceKind(StrEnum):
    """Whose bytes they are, the cheapest first."""

    PEER = "peer"
    """Of the local network."""
    INTERNET = "internet"
    """Another host, elsewhere."""
    MIRROR = "mirror"
    COORDINATOR = "coordinator"


class Source(Protocol):
    """One server. Every method raises a `NetworkError` or the server's `Refusal`."""

    @property
    def name(self) -> str:
        """What it is remembered by: its address."""

    @property
    def kind(self) -> SourceKind:
        """Whose it is."""

    async def leaves(self, blob: Blob) -> bytes:
        """Return the leaves of the blob, unchecked."""

    def read(self, blob: Blob, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the blob's bytes from `start` up to `end`, unchecked."""

    async def pace(self, amount: int) -> None:
        """Return when `amount` more bytes fit the rate that the user allows."""


@dataclass
class Busy:
    """How often a source had no time for us, one time after the other, and until when it rests."""

    times: int = 0
    until: float = float("-inf")


@dataclass(frozen=True)
class Offer:
    """A source for one blob.

    `can`: whether it has a part; `soon`: whether it is to have it later, for others too; `whole`:
    whether it has all of them.
    """

    source: Source
    can: Callable[[int], bool] = lambda _: True
    soon: Callable[[int], bool] = lambda _: False
    whole: Callable[[], bool] = lambda: True
    busy: Busy = field(default_factory=Busy)


class HttpSource:
    """A coordinator or a mirror: a server with `/blobs/DIGEST` and `/parts/DIGEST`."""

    def __init__(self, client: HttpClient, kind: SourceKind) -> None:
        self._client = client
        self.kind = kind
        self.name = client.base_url

    async def leaves(self, blob: Blob) -> bytes:
        """Return the leaves of the blob, unchecked."""
        return await self._client.message("GET", f"/parts/{blob.digest}", LIMITS.leaves_bytes)

    def read(self, blob: Blob, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the blob's bytes from `start` up to `end`, unchecked."""
        return self._client.read(f"/blobs/{blob.digest}", start, end, blob.size)

    async def pace(self, amount: int) -> None:
        """Return when `amount` more bytes fit the rate that the user allows."""
        await self._client.network.download.take(amount)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
