"""What other agents ask: which blobs are here, and their bytes. Only members of a project get any.

Connections, transfers, bodies and the time for a request are bounded; so is the rate, by the user's
preference. A part that is on its way here is waited for, a little shorter than a neighbour waits.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pleb_agent.cache.errors import CorruptBlobError
from pleb_agent.lan.household import MOST_BYTES as HOUSEHOLD_BYTES
from pleb_agent.program.http_server import BoundedConnection, BrokenOffError, HttpServer
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.lan import (
    Coming,
    HaveReply,
    HaveRequest,
    SignedHeaders,
    bitmap,
    request_mac,
)
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import RefusalBody
from pleb_shared.protocol.parts import part_count, part_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from starlette.requests import Request

    from pleb_agent.client.network import RateLimit
    from pleb_agent.lan.household import Household
    from pleb_agent.lan.peer_blobs import PeerBlobs
    from pleb_agent.lan.shared_files import Holding, SharedFiles

__all__ = ["Asker", "BlobServer"]

_WAIT_SECONDS: Final = 2.0
"""For a part that is on its way, or a free transfer."""
_LOOK_SECONDS: Final = 0.05
_TRANSFERS: Final = 16
_INTERNET_TRANSFERS: Final = 2
"""On slower lines: more would each be too slow to be waited for."""
_INTERNET_WAIT_SECONDS: Final = 1.0
"""For a free one there: ways are longer, and who asks waits for 2.5 s in all."""
_INTERNET_BODY_BYTES: Final = 32 * 1024
"""Of a request from anywhere: more than one with all its digests has."""
_PIECE_BYTES: Final = 128 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PEER: Final = re.compile(r"[0-9a-f]{16}")
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_RANGE: Final = re.compile(r"bytes=([0-9]{1,15})-([0-9]{1,15})")


class _Connection(BoundedConnection):
    most_connections = 48


@dataclass(frozen=True)
class Asker:
    """A member of one of our projects that asks."""

    peer: bytes
    address: str
    port: int
    key: bytes
    files: tuple[SharedFiles, ...]
    """Those of the project."""


class BlobServer:
    """Answers other agents: neighbours, or with `internet_port` members at any address.

    `asked` is called with who asks for which blobs; `known` tells what is fetched here.
    `internet_port`: where to listen if that is free; 0: anywhere.
    """

    def __init__(
        self,
        peer: bytes,
        files: Callable[[], Sequence[SharedFiles]],
        upload: RateLimit,
        clock: Callable[[], float],
        asked: Callable[[Asker, Sequence[str]], None],
        known: PeerBlobs,
        household: Household | None = None,
        internet_port: int | None = None,
    ) -> None:
        self._peer = peer.hex()
        self._files = files
        self._upload = upload
        self._clock = clock
        self._asked = asked
        self._known = known
        self._internet = internet = internet_port is not None
        self._most_body = _INTERNET_BODY_BYTES if internet else LIMITS.lan_body_bytes
        self._transfers = asyncio.Semaphore(_INTERNET_TRANSFERS if internet else _TRANSFERS)
        app = Starlette(
            routes=[
                Route("/have", self._answered(self._have), methods=["POST"]),
                Route("/blobs/{digest}", self._answered(self._blob)),
                Route("/parts/{digest}", self._answered(self._parts)),
                *(_household_routes(household) if household is not None else ()),
            ]
        )
        host = "::" if internet and socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104
        self._server = HttpServer(app, internet_port or 0, host=host, connection=_Connection)
        self.port = self._server.port
        self.sent = 0
        """Bytes of blobs that were sent."""

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.run()

    def stop(self) -> None:
        """Make `run` return."""
        self._server.stop()

    def _answered(
        self, act: Callable[[Request, Asker, bytes], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def run(request: Request) -> Response:
            try:
                body = await _body(request, self._most_body)
                return await act(request, self._asker(request, body), body)
            except Refusal as refusal:
                shown = RefusalBody(code=refusal.code, message=refusal.message)
                return Response(msgspec.json.encode(shown), refusal.http_status)

        return run

    def _asker(self, request: Request, body: bytes) -> Asker:
        """Return who asks. Raises `Refusal` not_permitted: no member, or not of this network."""
        address = request.client.host if request.client else ""
        head = request.headers
        peer, port = head.get("pleb-peer", ""), head.get("pleb-port", "")
        time, mac = head.get("pleb-time", ""), head.get("pleb-mac", "")
        well_formed = _PEER.fullmatch(peer) and _NUMBER.fullmatch(port) and _NUMBER.fullmatch(time)
        allowed = self._internet or _is_near(address)
        if well_formed and allowed and mac.isascii():
            signed = SignedHeaders(self._peer, peer, int(port), int(time))
            in_time = abs(signed.time - self._clock()) <= LIMITS.clock_tolerance_seconds
            wanted = head.get("range", "")
            for key in {key for one in self._files() for key in one.lan_keys} if in_time else ():
                right = request_mac(key, signed, request.method, request.url.path, wanted, body)
                if hmac.compare_digest(right, mac):
                    files = tuple(one for one in self._files() if key in one.lan_keys)
                    return Asker(bytes.fromhex(peer), address, signed.port, key, files)
        where = "" if self._internet else " on this network"
        message = f"Only members of a project{where} get its files here."
        raise Refusal(RefusalCode.NOT_PERMITTED, message)

    async def _have(self, _: Request, asker: Asker, body: bytes) -> Response:
        asked = strict_json.decode(body, HaveRequest, most_bytes=LIMITS.lan_body_bytes)
        self._asked(asker, asked.digests)
        until = asyncio.get_running_loop().time() + _WAIT_SECONDS
        while True:
            news = self._known.news()
            found = await asyncio.to_thread(_holdings, asker.files, asked.digests)
            left = until - asyncio.get_running_loop().time()
            if asked.seen is None or _parts_of(found) != asked.seen or left <= 0:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await news.wait()
        whole = [digest for digest, one in found.items() if not one.missing]
        coming = [
            Coming(
                digest=digest,
                parts=bitmap(set(range(part_count(one.blob.size))) - set(one.missing)),
                now=bitmap(one.brings_in()),
            )
            for digest, one in found.items()
            if one.missing
        ]
        begins = [
            digest
            for digest in asked.digests
            if digest not in found and self._known.is_about(digest)
        ]
        coming += [Coming(digest=digest, parts=bitmap(())) for digest in begins]
        return Response(strict_json.encode(HaveReply(whole=whole, coming=coming)))

    async def _parts(self, request: Request, asker: Asker, _: bytes) -> Response:
        holding = await self._holding(request, asker)
        leaves = await asyncio.to_thread(holding.leaves)
        if leaves is None:
            raise Refusal(RefusalCode.UNKNOWN_BLOB, "The part hashes of that blob are not here.")
        return Response(b"".join(leaves))

    async def _blob(self, request: Request, asker: Asker, _: bytes) -> Response:
        holding = await self._holding(request, asker)
        size = holding.blob.size
        start, end = _range(request, size)
        first = start // LIMITS.blob_part_bytes
        if not await _comes(holding, first):
            raise _not_yet("That part is not here yet.")
        headers = {"content-length": str(end - start)}
        status = 200
        if (start, end) != (0, size):
            status = 206
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        try:
            async with asyncio.timeout(_INTERNET_WAIT_SECONDS if self._internet else _WAIT_SECONDS):
                await self._transfers.acquire()
        except TimeoutError as error:
            raise _not_yet("Too many neighbours are served at the moment.") from error
        return StreamingResponse(self._sent(asker, holding, start, end), status, headers)

    async def _sent(
        self, asker: Asker, holding: Holding, start: int, end: int
    ) -> AsyncIterator[bytes]:
        """Yield the bytes; the transfer's place is free again when they are sent or given up.

        Raises:
            BrokenOffError: they cannot be read any more: the connection is closed, and who asks
                gets the rest elsewhere.
        """
        try:
            number = start // LIMITS.blob_part_bytes
            while start < end:
                first, last = part_place(holding.blob.size, number)
                if not await _comes(holding, number):
                    raise BrokenOffError("The part did not come.")
                try:
                    part = await asyncio.to_thread(holding.read, number)
                except ValueError:  # its download has ended meanwhile: the blob is elsewhere now
                    digest = holding.blob.digest
                    found = await asyncio.to_thread(_holdings, asker.files, [digest])
                    part = await asyncio.to_thread(found[digest].read, number)
                part = part[start - first : min(last, end) - first]
                for at in range(0, len(part), _PIECE_BYTES):
                    piece = part[at : at + _PIECE_BYTES]
                    await self._upload.take(len(piece))
                    self.sent += len(piece)
                    if self._internet:
                        asker.files[0].count_sent(len(piece))
                    yield piece
                    await asyncio.sleep(0)  # to learn that nobody reads any more
                start, number = last, number + 1
        except (CorruptBlobError, KeyError, ValueError, OSError) as error:
            raise BrokenOffError(str(error)) from error
        finally:
            self._transfers.release()

    async def _holding(self, request: Request, asker: Asker) -> Holding:
        digest = str(request.path_params["digest"])
        if not _DIGEST.fullmatch(digest):
            raise Refusal(RefusalCode.UNKNOWN_BLOB, "A blob is named by its SHA-256.")
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAIT_SECONDS
        while True:
            found = await asyncio.to_thread(_holdings, asker.files, [digest])
            if found:
                return found[digest]
            if not self._known.is_about(digest):
                raise Refusal(RefusalCode.UNKNOWN_BLOB, "That blob is not here.")
            if loop.time() >= until:
                raise _not_yet("That blob is not here yet.")
            await asyncio.sleep(_LOOK_SECONDS)


def _household_routes(household: Household) -> list[Route]:
    """Return what members of the user's household ask, and who joins it."""

    def route(path: str, act: Callable[[bytes], bytes]) -> Route:
        async def run(request: Request) -> Response:
            try:
                _require_near(request)
                return Response(act(await _body(request, HOUSEHOLD_BYTES)))
            except Refusal as refusal:
                shown = RefusalBody(code=refusal.code, message=refusal.message)
                return Response(msgspec.json.encode(shown), refusal.http_status)

        return Route(path, run, methods=["POST"])

    return [route("/household", household.take), route("/household/join", household.admit)]


def _holdings(files: Sequence[SharedFiles], digests: Sequence[str]) -> dict[str, Holding]:
    found = {}
    for digest in digests:
        holding = next(filter(None, (one.holding(digest) for one in files)), None)
        if holding is not None:
            found[digest] = holding
    return found


def _parts_of(found: dict[str, Holding]) -> int:
    """Return how many parts are here."""
    return sum(part_count(one.blob.size) - len(one.missing) for one in found.values())


async def _comes(holding: Holding, number: int) -> bool:
    """Wait for a part; return whether it is here."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _WAIT_SECONDS
    while number in holding.missing:
        if loop.time() >= until:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True


async def _body(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise Refusal(RefusalCode.TOO_LARGE, "The request has too many bytes.")
    return bytes(body)


def _range(request: Request, size: int) -> tuple[int, int]:
    text = request.headers.get("range")
    if text is None:
        return 0, size
    match = _RANGE.fullmatch(text)
    if match is None or not int(match[1]) <= int(match[2]) < size:
        raise Refusal(RefusalCode.BAD_RANGE, "A range is bytes=FIRST-LAST, within the blob.")
    return int(match[1]), int(match[2]) + 1


def _require_near(request: Request) -> None:
    if not _is_near(request.client.host if request.client else ""):
        message = "Only this network's agents are answered here."
        raise Refusal(RefusalCode.NOT_PERMITTED, message)


def _is_near(address: str) -> bool:
    """Whether an address is of a local network."""
    with suppress(ValueError):
        found = ipaddress.ip_address(address)
        return found.is_private or found.is_link_local or found.is_loopback
    return False


def _not_yet(message: str) -> Refusal:
    return Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=1)
