"""Another agent as a source of blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.blobs.source import SourceKind
from pleb_agent.client.http import HttpClient, Timeouts
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.lan import HaveReply, HaveRequest, SignedHeaders, request_mac
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pleb_agent.client.http import Traffic
    from pleb_agent.client.network import Network
    from pleb_agent.lan.neighbours import Neighbour
    from pleb_shared.protocol.unit import Blob

__all__ = ["PeerSource"]

_TIMEOUTS: Final = Timeouts(connect=2.5, silence=4.0)


class PeerSource:
    """One other agent, asked with the key of one project.

    `own`: this agent's peer and port (0: it cannot be asked). `traffic`: where bytes are counted
    that are to count against the daily limits.
    """

    def __init__(
        self,
        neighbour: Neighbour,
        key: bytes,
        own: tuple[bytes, Callable[[], int]],
        network: Network,
        clock: Callable[[], float],
        kind: SourceKind = SourceKind.PEER,
        traffic: Traffic | None = None,
    ) -> None:
        self.kind = kind
        self.neighbour = neighbour
        self.name = neighbour.url
        self._key = key
        self._own = own
        self._clock = clock
        self._client = HttpClient(
            neighbour.url, timeouts=_TIMEOUTS, network=network, traffic=traffic
        )

    async def have(self, digests: Sequence[str], seen: int | None = None) -> HaveReply:
        """Return what the neighbour has of these blobs; it learns that we want them.

        `seen`: how many parts it had of them; it waits a moment until it has others.
        """
        request = HaveRequest(digests=list(digests)[: LIMITS.lan_blobs], seen=seen)
        body = strict_json.encode(request)
        headers = self._headers("POST", "/have", "", body)
        answer = await self._client.message(
            "POST", "/have", LIMITS.lan_body_bytes, body, headers=headers
        )
        return strict_json.decode(answer, HaveReply, most_bytes=LIMITS.lan_body_bytes)

    async def leaves(self, blob: Blob) -> bytes:
        """Return the leaves of the blob, unchecked."""
        path = f"/parts/{blob.digest}"
        headers = self._headers("GET", path, "", b"")
        return await self._client.message("GET", path, LIMITS.leaves_bytes, headers=headers)

    def read(self, blob: Blob, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the blob's bytes from `start` up to `end`, unchecked."""
        path = f"/blobs/{blob.digest}"
        wanted = "" if end - start == blob.size else f"bytes={start}-{end - 1}"
        headers = self._headers("GET", path, wanted, b"")
        return self._client.read(path, start, end, blob.size, headers=headers)

    async def pace(self, amount: int) -> None:
        """Return when `amount` more bytes fit the rate that the user allows."""
        await self._client.network.download.take(amount)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _headers(self, method: str, path: str, wanted: str, body: bytes) -> dict[str, str]:
        peer, port = self._own[0], self._own[1]()
        signed = SignedHeaders(self.neighbour.peer.hex(), peer.hex(), port, int(self._clock()))
        return {
            "pleb-peer": signed.peer,
            "pleb-port": str(port),
            "pleb-time": str(signed.time),
            "pleb-mac": request_mac(self._key, signed, method, path, wanted, body),
        }
