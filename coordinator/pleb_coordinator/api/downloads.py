"""`GET /downloads/NAME`: packages of the agent, whole or in ranges.

Their bytes are checked when they are added, not here. Bounds: as for every connection, and at most
`MOST_DOWNLOADS` at a time, so that slow clients do not take all connections from hosts.
"""

from __future__ import annotations

import asyncio
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

__all__ = ["download"]

_CHUNK_BYTES: Final = 256 * 1024


async def download(api: Api, request: Request) -> Response:
    """Send a package.

    Raises:
        Refusal: `unknown_blob`: it is not offered; `rate_limited`: all places are taken.
    """
    name = request.path_params["name"]
    package = api.packages.find(name)
    if package is None:
        message = "This coordinator has no such package: its join page lists those that it has."
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
    headers = {
        "ETag": f'"{package.sha256}"',
        "Cache-Control": "public, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{package.name}"',
        "X-Content-Type-Options": "nosniff",
    }
    if f'"{package.sha256}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range")
    if request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        wanted = None  # it began with another release's bytes
    start, end = parse_range(wanted, package.size)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{package.size}"
    headers["Content-Length"] = str(end - start)
    status, media_type = 206 if wanted is not None else 200, package.kind.media_type
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    owner = subscriber(request.client.host if request.client else "")
    if api.downloads.is_full() or api.downloads.is_full_for(owner):
        message = "Too many downloads run at the moment: try again in a minute."
        raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=60)
    try:
        file = await asyncio.to_thread(api.packages.open, package)
    except OSError as error:
        message = "This coordinator has no such package any more: look at its join page again."
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message) from error
    api.downloads.take(owner)
    api.counters.bytes_sent += end - start

    def at_end() -> None:
        file.close()
        api.downloads.give_back(owner)

    return _FileStream(_parts(file, start, end), status, headers, media_type, at_end)


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
