"""The coordinator's endpoints (docs/protocol.md 2) as coroutines."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

import httpx
import msgspec

from pleb_agent.client.network import NO_LIMITS
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.status import ProjectStatus
from pleb_system.network_errors import BadAnswerError, UnreachableError, WrongBytesError
from pleb_system.transport import REFUSAL_BYTES, network_error, open_http, refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pleb_agent.client.network import Network
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.unit import Blob

__all__ = ["TRIES_AGAIN", "BlobSink", "CoordinatorClient", "Timeouts"]

_SLOWEST_BYTES_PER_SECOND = 2048
_PIECE_BYTES = 16 * 1024
_STATUS_BYTES = 4 * 2**20
_MOST_POINTS = 4000
_SHARERS = 4
"""Among how many transfers a rate may be divided before one of them counts as stuck."""


class BlobSink(Protocol):
    """Takes a blob's bytes; knows how many it already has."""

    @property
    def offset(self) -> int:
        """How many bytes of the blob are there."""

    def restart(self) -> None:
        """Discard those bytes."""

    def write(self, chunk: bytes) -> None:
        """Append."""


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


class CoordinatorClient:
    """The client of one coordinator, with a few kept-alive connections.

    Every method raises a `NetworkError` (try again later) or the coordinator's `Refusal`;
    none retries by itself.
    """

    def __init__(
        self,
        base_url: str,
        certificate: str | None = None,
        *,
        timeouts: Timeouts | None = None,
        network: Network = NO_LIMITS,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.traffic = Traffic()
        self._certificate = certificate
        self._timeouts = timeouts or Timeouts()
        self._network = network
        self._http: httpx.AsyncClient | None = None
        self._proxy = ""
        """The preference that `_http` was made for."""
        self._under_way = 0
        self.last_date = ""
        """The `Date` header of the last answer: the coordinator's time."""
        try:
            self._url = httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise InputError(f"{base_url!r} is not an address: {error}.") from error

    @classmethod
    def for_link(cls, link: AttachLink, network: Network = NO_LIMITS) -> CoordinatorClient:
        """Return a client for a link's coordinator."""
        return cls(link.base_url, link.certificate, network=network)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def metadata(self, project: str) -> bytes:
        """Return the envelope of the project's metadata."""
        return await self._message("GET", f"/projects/{project}/metadata", LIMITS.metadata_bytes)

    async def hand_in_metadata(self, project: str, envelope: bytes) -> None:
        """Give the coordinator metadata that it has lost."""
        path = f"/projects/{project}/metadata"
        await self._message("POST", path, LIMITS.metadata_bytes, envelope)

    async def status(self, project: str) -> ProjectStatus:
        """Return the project's status (unsigned: for plots, never for decisions).

        Of a very long series it has the newest points.

        Raises:
            BadAnswerError: the answer is no status.
        """
        body = await self._message("GET", f"/projects/{project}/status", _STATUS_BYTES)
        try:
            status = strict_json.decode(body, ProjectStatus, most_bytes=_STATUS_BYTES)
        except Refusal as error:
            message = f"The coordinator's status cannot be read ({error}); trying again later."
            raise BadAnswerError(message) from error
        return msgspec.structs.replace(status, series=status.series[-_MOST_POINTS:])

    async def enrol(self, project: str, envelope: bytes) -> bytes:
        """Return the envelope of the answer."""
        path = f"/projects/{project}/enrol"
        return await self._message("POST", path, LIMITS.message_bytes, envelope)

    async def work(self, project: str, body: bytes, *, wait_seconds: float = 0) -> bytes:
        """Return the envelope of the answer, which may come after `wait_seconds` (long-poll)."""
        path = f"/projects/{project}/work"
        return await self._message("POST", path, LIMITS.message_bytes, body, wait_seconds)

    async def download(self, blob: Blob, sink: BlobSink) -> None:
        """Fill `sink` with the blob's bytes, from its offset on.

        The digest is the sink's to check. If the connection breaks the sink keeps what it has.

        Raises:
            WrongBytesError: more bytes than the blob has, or another range than the asked one.
        """
        limit = self._network.download
        allowance = self._timeouts.silence + blob.size / _SLOWEST_BYTES_PER_SECOND
        allowance += _SHARERS * limit.seconds_for(blob.size)
        headers = {"accept-encoding": "identity"}
        if sink.offset:
            headers["range"] = f"bytes={sink.offset}-"
        async with self._stream(
            "GET", f"/blobs/{blob.digest}", allowance, headers=headers
        ) as response:
            await raise_for_refusal(response)
            asked = f"bytes {sink.offset}-{blob.size - 1}/"
            if response.status_code != 206:  # all of the blob, from its beginning
                sink.restart()
            elif not response.headers.get("content-range", "").startswith(asked):
                sink.restart()
                raise WrongBytesError(
                    f"Blob {blob.digest[:12]} came in another range than asked for."
                )
            async for chunk in response.aiter_raw():
                if sink.offset + len(chunk) > blob.size:
                    sink.restart()
                    raise WrongBytesError(f"Blob {blob.digest[:12]} came with too many bytes.")
                sink.write(chunk)
                await limit.take(len(chunk))
        if sink.offset != blob.size:
            raise UnreachableError(
                f"Blob {blob.digest[:12]} was cut off; the rest is fetched later."
            )

    async def upload_offset(self, token: str) -> tuple[int, bool]:
        """Return how many bytes an upload has, and whether it is complete."""
        allowance = self._timeouts.silence
        async with self._stream("HEAD", f"/uploads/{token}", allowance) as response:
            if response.status_code == 404:
                raise Refusal(RefusalCode.UNKNOWN_UPLOAD, "The upload is no longer known.")
            if response.status_code == 410:
                raise Refusal(RefusalCode.LEASE_EXPIRED, "The lease ended before the upload.")
            await raise_for_refusal(response)
            return _upload_headers(response)

    async def upload_part(self, token: str, offset: int, part: bytes) -> tuple[int, bool]:
        """Send the bytes from `offset` on; return the new offset and whether that was all."""
        allowance = 2 * self._timeouts.silence + len(part) / _SLOWEST_BYTES_PER_SECOND
        allowance += _SHARERS * self._network.upload.seconds_for(len(part))
        headers = {"upload-offset": str(offset)}
        async with self._stream(
            "PATCH", f"/uploads/{token}", allowance, content=part, headers=headers
        ) as response:
            await raise_for_refusal(response)
            return _upload_headers(response)

    async def upload(
        self,
        token: str,
        file: IO[bytes],
        size: int,
        *,
        part_bytes: int = LIMITS.sent_part_bytes,
    ) -> None:
        """Send what the coordinator does not have yet of the file's `size` bytes, in parts.

        Raises:
            NetworkError: it broke; a later call continues from there.
            Refusal: the bytes are not wanted, or not accepted.
        """
        offset, complete = await self.upload_offset(token)
        while not complete:
            if not 0 <= offset <= size:
                raise BadAnswerError(
                    f"The coordinator counts {offset} of {size} uploaded bytes; the agent tries "
                    "again later."
                )
            file.seek(offset)
            # None is left if the coordinator stopped before it had looked at the whole.
            part = file.read(min(part_bytes, size - offset))
            before = offset
            try:
                offset, complete = await self.upload_part(token, offset, part)
            except Refusal as refusal:
                if refusal.code is not RefusalCode.WRONG_OFFSET:
                    raise
                offset, complete = await self.upload_offset(token)
            if offset <= before and not complete:
                raise BadAnswerError(
                    "The coordinator accepts no more bytes of an upload; the agent tries again "
                    "later."
                )

    async def _message(
        self,
        method: str,
        path: str,
        most_bytes: int,
        content: bytes | None = None,
        wait_seconds: float = 0,
    ) -> bytes:
        allowance = wait_seconds + 2 * self._timeouts.silence
        allowance += _SHARERS * self._network.upload.seconds_for(len(content or b""))
        async with self._stream(method, path, allowance, content=content, wait=wait_seconds) as got:
            await raise_for_refusal(got)
            body = await read_bounded(got, most_bytes)
        await self._network.download.take(len(body))
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
        silence = self._timeouts.silence
        timeout = httpx.Timeout(silence, connect=self._timeouts.connect, read=silence + wait)
        headers = dict(headers or {})
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
            await self._network.upload.take(len(piece))
            self.traffic.sent += len(piece)
            yield piece

    async def _connected(self) -> httpx.AsyncClient:
        """Return the connections; other ones after a change of proxy, once none is in use."""
        proxy = self._network.proxy()
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


def _upload_headers(response: httpx.Response) -> tuple[int, bool]:
    try:
        offset = int(response.headers["upload-offset"])  # h11 bounds a head, `int` its digits
    except (KeyError, ValueError) as error:
        raise BadAnswerError(
            "The coordinator did not say how much of the upload it has."
        ) from error
    return offset, response.headers.get("upload-complete") == "?1"
