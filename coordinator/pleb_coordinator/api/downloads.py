"""Files that anybody may take home, whole or in ranges: packages of the agent, and models.

Bounds: as for every connection, and at most `MOST_DOWNLOADS` at a time, so that slow clients do not
take all connections from hosts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import Response, StreamingResponse
from typing_extensions import override

from pleb_coordinator.api.addresses import subscriber
from pleb_coordinator.api.blob_files import parse_range
from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import BinaryIO

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from pleb_coordinator.api.context import Api

__all__ = ["Offer", "download", "send"]

_CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class Offer:
    """A file to send."""

    name: str
    """What it will be called."""
    size: int
    digest: str
    """Of its bytes, or of what they follow from."""
    media_type: str
    open: Callable[[], BinaryIO]
    """Raises OSError: it is gone."""


async def download(api: Api, request: Request) -> Response:
    """Send a package; its bytes were checked when it was added.

    Raises:
        Refusal: `unknown_blob`: it is not offered; else as `send`.
    """
    package = api.packages.find(request.path_params["name"])
    if package is None:
        message = "This coordinator has no such package: its join page lists those that it has."
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
    offer = Offer(
        package.name,
        package.size,
        package.sha256,
        package.kind.media_type,
        lambda: api.packages.open(package),
    )
    return await send(api, request, offer)


async def send(api: Api, request: Request, offer: Offer) -> Response:
    """Send a file, or the range of it that is asked for.

    Raises:
        Refusal: `rate_limited`: all places are taken; `unknown_blob`: it has just gone.
    """
    headers = {
        "ETag": f'"{offer.digest}"',
        "Cache-Control": "public, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{offer.name}"',
        "X-Content-Type-Options": "nosniff",
    }
    if f'"{offer.digest}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range")
    if request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        wanted = None  # it began with another release's bytes
    start, end = parse_range(wanted, offer.size)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{offer.size}"
    headers["Content-Length"] = str(end - start)
    status = 206 if wanted is not None else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=offer.media_type)
    owner = subscriber(request.client.host if request.client else "")
    if api.downloads.is_full() or api.downloads.is_full_for(owner):
        message = "Too many downloads run at the moment: try again in a minute."
        raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=60)
    try:
        file = await asyncio.to_thread(offer.open)
    except OSError as error:
        message = "This coordinator does not have the file any more: look at its page again."
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message) from error
    api.downloads.take(owner)
    api.counters.bytes_sent += end - start

    def at_end() -> None:
        file.close()
        api.downloads.give_back(owner)

    return _FileStream(_parts(file, start, end), status, headers, offer.media_type, at_end)


class _FileStream(StreamingResponse):
    """Calls `at_end` however the stream ends, even if it never began."""

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        status: int,
        headers: dict[str, str],
        media_type: str,
        at_end: Callable[[], None],
    ) -> None:
        super().__init__(parts, status, headers, media_type)
        self._at_end = at_end

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()


async def _parts(file: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    file.seek(start)
    for first in range(start, end, _CHUNK_BYTES):
        yield await asyncio.to_thread(file.read, min(_CHUNK_BYTES, end - first))
