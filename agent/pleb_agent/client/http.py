"""HTTP to one server: a few kept-alive connections, bounded in time, bytes and rate."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from pleb_agent.client.network import NO_LIMITS
from pleb_shared.errors import InputError
from pleb_system.network_errors import BadAnswerError, UnreachableError, WrongBytesError
from pleb_system.transport import REFUSAL_BYTES, network_error, open_http, refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from pleb_agent.client.network import Network, RateLimit

__all__ = [
    "SHARERS",
    "TRIES_AGAIN",
    "HttpClient",
    "Timeouts",
    "Traffic",
    "raise_for_refusal",
    "read_bounded",
]

_SLOWEST_BYTES_PER_SECOND: Final = 2048
_PIECE_BYTES: Final = 16 * 1024
SHARERS: Final = 4
"""Among how many transfers a rate may be divided before one of them counts as stuck."""


@dataclass
class Traffic:
    """Bytes of bodies in each direction since they were last taken."""

    received: int = 0
    sent: int = 0

    def take(self) -> tuple[int, int]:
        """Return what was received and sent since the last call."""
        taken = self.received, self.sent
        self.received = self.sent = 0
        return taken


TRIES_AGAIN = "the agent tries again later, nothing is lost"
"""What follows when a coordinator cannot be reached."""


@dataclass(frozen=True)
class Timeouts:
    """How long the network may take, in seconds."""

    connect: float = 10.0
    silence: float = 30.0
    """Without a byte for this long, the connection counts as dead."""


class HttpClient:
    """The client of one server.

    `traffic`: where its bytes are counted; without one it counts by itself.
    """

    def __init__(
        self,
        base_url: str,
        certificate: str | None = None,
        *,
        timeouts: Timeouts | None = None,
        network: Network = NO_LIMITS,
        traffic: Traffic | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.traffic = traffic or Traffic()
        self._certificate = certificate
        self.timeouts = timeouts or Timeouts()
        self.network = network
        self._http: httpx.AsyncClient | None = None
        self._proxy = ""
        """The preference that `_http` was made for."""
        self._under_way = 0
        self.reader = ""
        """By what this server knows who reads a private project; only it gets that."""
        self.last_date = ""
        """The `Date` header of the last answer: the server's time."""
        try:
            self._url = httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise InputError(f"{base_url!r} is not an address: {error}.") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def read(
        self,
        path: str,
        start: int,
        end: int,
        size: int,
        *,
        headers: dict[str, str] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` up to, not including, `end` of a file that has `size`.

        What is not iterated to its end has to be closed (`contextlib.aclosing`).

        Raises:
            WrongBytesError: more bytes than were asked for, or another range.
            UnreachableError: the connection broke; what was yielded is good.
            NetworkError, Refusal: as every request.
        """
        wanted = end - start
        headers = dict(headers or {})
        if wanted != size:
            headers["range"] = f"bytes={start}-{end - 1}"
        allowance = self.timeouts.silence + self.seconds_for(wanted, self.network.download)
        came = 0
        async with self._stream("GET", path, allowance, headers=headers) as response:
            await raise_for_refusal(response)
            ranged = response.status_code == 206
            shown = response.headers.get("content-range", "")
            if ranged and not shown.startswith(f"bytes {start}-{end - 1}/"):
                raise WrongBytesError(f"{path} came in another range than asked for.")
            # A server without ranges sends all of it: what comes before the range is left out.
            skipped = 0 if ranged else start
            async for raw in response.aiter_raw():
                chunk = raw[skipped:]
                skipped -= len(raw) - len(chunk)
                if came + len(chunk) > wanted:
                    if ranged or wanted == size:
                        raise WrongBytesError(f"{path} came with too many bytes.")
                    chunk = chunk[: wanted - came]
                came += len(chunk)
                if chunk:
                    yield chunk
                if came == wanted and not ranged and wanted != size:
                    return
        if came != wanted:
            raise UnreachableError(f"{path} was cut off; the rest is fetched later.")

    @staticmethod
    def seconds_for(amount: int, limit: RateLimit) -> float:
        """Return how long so many bytes may take in one direction."""
        return amount / _SLOWEST_BYTES_PER_SECOND + SHARERS * limit.seconds_for(amount)

    async def message(
        self,
        method: str,
        path: str,
        most_bytes: int,
        content: bytes | None = None,
        wait_seconds: float = 0,
        *,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Send a request and return its answer, of at most `most_bytes`."""
        allowance = wait_seconds + 2 * self.timeouts.silence
        allowance += SHARERS * self.network.upload.seconds_for(len(content or b""))
        async with self._stream(
            method, path, allowance, content=content, headers=headers, wait=wait_seconds
        ) as got:
            await raise_for_refusal(got)
            body = await read_bounded(got, most_bytes)
        await self.network.download.take(len(body))
        return body

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        path: str,
        allowance_seconds: float,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        wait: float = 0,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; every network error is raised as one of ours."""
        silence = self.timeouts.silence
        timeout = httpx.Timeout(silence, connect=self.timeouts.connect, read=silence + wait)
        headers = dict(headers or {})
        if self.reader:
            headers["authorization"] = f"Pleb {self.reader}"
        if content is not None:
            headers["content-length"] = str(len(content))
        self._under_way += 1
        try:
            async with asyncio.timeout(allowance_seconds):
                http = await self._connected()
                async with http.stream(
                    method,
                    self.base_url + path,
                    content=None if content is None else self._paced(content),
                    headers=headers,
                    timeout=timeout,
                ) as response:
                    self.last_date = response.headers.get("date", "")
                    try:
                        yield response
                    finally:
                        self.traffic.received += response.num_bytes_downloaded
        except (httpx.RequestError, TimeoutError) as error:
            raise network_error(error, self.base_url, TRIES_AGAIN, proxy=self._proxy) from error
        finally:
            self._under_way -= 1

    async def _paced(self, content: bytes) -> AsyncIterator[bytes]:
        """Yield a body in pieces, no faster than the rate for sending."""
        for at in range(0, len(content), _PIECE_BYTES):
            piece = content[at : at + _PIECE_BYTES]
            await self.network.upload.take(len(piece))
            self.traffic.sent += len(piece)
            yield piece

    async def _connected(self) -> httpx.AsyncClient:
        """Return the connections; other ones after a change of proxy, once none is in use."""
        proxy = self.network.proxy()
        if self._http is not None and proxy != self._proxy and self._under_way == 1:
            await self.close()
        if self._http is None:
            self._http = open_http(
                httpx.AsyncClient,
                self._url,
                certificate=self._certificate,
                proxy=proxy,
                limits=httpx.Limits(max_connections=8, keepalive_expiry=60.0),
            )
            self._proxy = proxy
        return self._http


async def raise_for_refusal(response: httpx.Response) -> None:
    """Return if the status is a success.

    Raises:
        Refusal: the coordinator refuses.
        BadAnswerError: any other failure, for instance a proxy's page.
    """
    if not response.is_success:
        raise refusal_of(response, await read_bounded(response, REFUSAL_BYTES))


async def read_bounded(response: httpx.Response, most_bytes: int) -> bytes:
    """Return the body.

    Raises:
        BadAnswerError: it is longer than `most_bytes`.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > most_bytes:
            raise BadAnswerError(
                f"{response.request.url.host} sent more than {most_bytes} bytes where less "
                "was expected; the agent tries again later."
            )
    return bytes(body)
