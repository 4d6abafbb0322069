"""`HEAD` and `PATCH /uploads/TOKEN`: resumable uploads into slots of exactly known bytes.

`GET /uploads/TOKEN/parts` and `POST /uploads/TOKEN/landed` are for hosts that put the bytes into
the bucket themselves: none of them comes through this process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from pleb_coordinator.api.requests import read_body
from pleb_coordinator.blobs.store import check_whole
from pleb_coordinator.steps.landed import is_direct, land, next_parts
from pleb_coordinator.steps.upload import (
    UploadStatus,
    append_part,
    check_upload,
    find_upload,
    finish_upload,
    refuse_upload,
    upload_blobs,
    upload_format,
    upload_status,
)
from pleb_shared.errors import EncodingError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.direct import DirectParts
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.core.records import Upload

__all__ = ["direct_parts", "head_upload", "land_upload", "patch_upload"]


async def head_upload(api: Api, request: Request) -> Response:
    """Answer how many bytes have arrived."""
    upload = _find(api, request)
    if api.deps.blobs.in_files:
        status = upload_status(api.deps, upload)
    else:
        status = await asyncio.to_thread(upload_status, api.deps, upload)
    headers = _headers(status) | {"Cache-Control": "no-store"}
    return Response(status_code=200, headers=headers)


async def patch_upload(api: Api, request: Request) -> Response:
    """Store the next bytes; after the last ones, check the whole and let it count."""
    upload = _find(api, request)
    offset = _offset(request)
    body = await read_body(request, LIMITS.upload_part_bytes, api.counters)
    if upload.token in api.uploads_busy:  # two parts at once would mix their bytes
        message = "Another part of this upload is being written: ask for its offset."
        raise Refusal(RefusalCode.WRONG_OFFSET, message, retry_after_seconds=1)
    api.uploads_busy.add(upload.token)
    try:
        if upload.arrived and offset == upload.size and not body:
            end = upload.size  # the last answer was lost, and is asked for again
        else:
            end = await asyncio.to_thread(append_part, api.deps, upload, offset, body)
        complete = end == upload.size
        if complete and not upload.arrived:
            await _finish(api, upload)
    finally:
        api.uploads_busy.discard(upload.token)
    return Response(status_code=204, headers=_headers(UploadStatus(end, upload.size, complete)))


async def direct_parts(api: Api, request: Request) -> Response:
    """Answer which bytes the host may put into the bucket next, with a signature for each part."""
    upload = _find(api, request)
    with api.store.read() as tx:
        direct = is_direct(tx, api.deps, upload)
    if direct:
        found = await asyncio.to_thread(next_parts, api.deps, upload)
    else:
        found = DirectParts(offset=0, parts=[])
    headers = {"Cache-Control": "no-store"}
    return Response(strict_json.encode(found), 200, headers, "application/json")


async def land_upload(api: Api, request: Request) -> Response:
    """Take note that all bytes are in the bucket; the background process checks them.

    Raises:
        Refusal: `wrong_offset`: they are not.
    """
    upload = _find(api, request)
    with api.store.read() as tx:
        direct = is_direct(tx, api.deps, upload)
    status = await asyncio.to_thread(upload_status, api.deps, upload)
    check_whole(status.offset, status.length)
    if not upload.arrived:
        if direct:
            await api.commits.run(lambda tx: land(tx, api.deps, upload))
        else:
            await _finish(api, upload)
    headers = _headers(UploadStatus(upload.size, upload.size, complete=True))
    return Response(status_code=204, headers=headers)


async def _finish(api: Api, upload: Upload) -> None:
    with api.store.read() as tx:
        encoding, blobs = upload_format(tx, upload), upload_blobs(tx, api.deps, upload)
    try:
        sealed = await asyncio.to_thread(check_upload, api.deps, upload, encoding, blobs)
    except (Refusal, EncodingError) as error:
        if isinstance(error, Refusal) and error.retry_after_seconds is not None:
            raise  # the store's fault, not the host's: its last part may be sent again
        refusal = error
        await api.commits.run(lambda tx: refuse_upload(tx, api.deps, upload, refusal))
        raise
    await api.commits.run(lambda tx: finish_upload(tx, api.deps, upload, sealed))


def _find(api: Api, request: Request) -> Upload:
    with api.store.read() as tx:
        return find_upload(tx, api.deps, request.path_params["token"])


def _offset(request: Request) -> int:
    text = request.headers.get("upload-offset", "")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        message = "The header Upload-Offset must be the position of the first of these bytes."
        raise Refusal(RefusalCode.MALFORMED, message)
    return int(text)


def _headers(status: UploadStatus) -> dict[str, str]:
    return {
        "Upload-Offset": str(status.offset),
        "Upload-Length": str(status.length),
        "Upload-Complete": "?1" if status.complete else "?0",
    }
