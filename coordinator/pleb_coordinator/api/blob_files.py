"""`GET /blobs/DIGEST`: content-addressed files, whole or in ranges, and the leaves of their trees.

Deltas are never served. Blobs of a private project are for its readers alone (`api.access`).

Not starlette's FileResponse: it answers a wrong range in plain text instead of a typed refusal,
reads even the smallest file in a thread, and needs a path, which an S3 store does not have.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from starlette.responses import Response, StreamingResponse

from pleb_coordinator.api.access import check_blob
from pleb_shared.errors import Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.blobs.store import Blobs

__all__ = ["blob", "parse_range", "parts"]

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_FOR_EVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_FOR_READERS: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
"""Of a private project: no cache between may answer in our place, whom we would refuse."""
_CHUNK_BYTES: Final = 512 * 1024
_SMALL_BYTES: Final = 128 * 1024
"""Read from a file in the event loop: a thread would cost more than the read."""


async def blob(api: Api, request: Request) -> Response:
    """Send a blob's bytes; they never change, so every cache may keep them."""
    digest = _digest(request)
    blobs = api.deps.blobs
    caching = await _check_blob(api, request, digest)
    size = blobs.size(digest) if blobs.in_files else await asyncio.to_thread(blobs.size, digest)
    headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes", **caching}
    if f'"{digest}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    start, end = parse_range(request.headers.get("range"), size)
    partial = "range" in request.headers
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    status, media_type = 206 if partial else 200, "application/octet-stream"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    api.counters.bytes_sent += end - start
    if blobs.in_files and end - start <= _SMALL_BYTES:
        return Response(blobs.read(digest, start, end), status, headers, media_type)
    return StreamingResponse(_chunks(blobs, digest, start, end), status, headers, media_type)


async def parts(api: Api, request: Request) -> Response:
    """Send the leaves of a blob's tree, 32 bytes for each part, by which its parts are checked."""
    digest = _digest(request)
    caching = await _check_blob(api, request, digest)
    found = await asyncio.to_thread(api.leaves.get, digest)
    api.counters.bytes_sent += len(found)
    return Response(found, 200, caching, "application/octet-stream")


async def _check_blob(api: Api, request: Request, digest: str) -> dict[str, str]:
    """Return who may keep a blob, if the request may have it: of a private project its readers."""
    keys = api.blob_keys
    if api.deps.blobs.in_files or keys.known(digest):
        key_id = keys.of(digest)
    else:
        key_id = await asyncio.to_thread(keys.of, digest)
    check_blob(api, request, digest, key_id)
    return _FOR_EVER if key_id is None else _FOR_READERS


def _digest(request: Request) -> str:
    digest = str(request.path_params["digest"])
    if not _DIGEST.fullmatch(digest):
        message = "A blob is named by the SHA-256 of its bytes: 64 hexadecimal digits."
        raise Refusal(RefusalCode.UNKNOWN_BLOB, message)
    return digest


def parse_range(header: str | None, size: int) -> tuple[int, int]:
    """Return the first byte of the range, and the one after the last.

    Raises:
        Refusal: `bad_range`: another form than `bytes=a-b` or `bytes=a-`, or past the end.
    """
    if header is None:
        return 0, size
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        message = "A range has the form bytes=FIRST-LAST or bytes=FIRST-."
        raise Refusal(RefusalCode.BAD_RANGE, message)
    start = int(match[1])
    end = min(size, int(match[2]) + 1) if match[2] else size
    if start >= end:
        message = f"The blob has {size} bytes: {header!r} is past its end."
        raise Refusal(RefusalCode.BAD_RANGE, message)
    return start, end


async def _chunks(blobs: Blobs, digest: str, start: int, end: int) -> AsyncIterator[bytes]:
    """Yield the bytes in pieces, so that memory stays flat however large the blob is."""
    for first in range(start, end, _CHUNK_BYTES):
        last = min(end, first + _CHUNK_BYTES)
        yield await asyncio.to_thread(blobs.read, digest, first, last)
