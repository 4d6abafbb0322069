"""`/projects/P/status` (JSON) and `/projects/P/events` (Server-Sent Events)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import Response, StreamingResponse

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.status import ProjectStatus, StatusChange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from pleb_coordinator.api.context import Api

__all__ = ["change_between", "events", "status"]

_ENCODE: Final = msgspec.json.Encoder().encode
_HEARTBEAT_SECONDS: Final = 15.0
_BETWEEN_SECONDS: Final = 0.5
"""At most this often a listener gets an event."""
_MOST_LISTENERS: Final = 500


async def status(api: Api, request: Request) -> Response:
    """Return the project's status; see `pleb_shared.protocol.status`."""
    found = await api.statuses.of(request.path_params["project"])
    headers = {"Cache-Control": "no-store"}
    return Response(_ENCODE(found), media_type="application/json", headers=headers)


async def events(api: Api, request: Request) -> Response:
    """Send an `event: status` at once and after every change."""
    name = request.path_params["project"]
    first = await api.statuses.of(name)
    if api.counters.listeners >= _MOST_LISTENERS:
        message = "Too many pages are open: reload this page in a minute."
        raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=60)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = _stream(api, name, first)
    return StreamingResponse(stream, headers=headers, media_type="text/event-stream")


async def _stream(api: Api, name: str, now: ProjectStatus) -> AsyncIterator[bytes]:
    api.counters.listeners += 1
    try:
        before, seen = None, -1
        while not api.closing.is_set():
            change = change_between(before, now)
            if change is not None:
                yield b"event: status\ndata: " + _ENCODE(change) + b"\n\n"
            before = now
            while not await api.changes.after(seen, _HEARTBEAT_SECONDS):
                yield b": still here\n\n"
            if not api.closing.is_set():
                seen = api.changes.now()  # before reading: later changes wake it again
                await asyncio.sleep(_BETWEEN_SECONDS)
                now = await api.statuses.of(name)
    finally:
        api.counters.listeners -= 1


def change_between(before: ProjectStatus | None, now: ProjectStatus) -> StatusChange | None:
    """Return what has changed for a listener that saw `before`; None: nothing."""
    if before is not None and before == msgspec.structs.replace(now, updated_at=before.updated_at):
        return None
    known = [] if before is None or before.epoch != now.epoch else before.series
    seen = {point.version: point for point in known}
    changed = [point for point in now.series if seen.get(point.version) != point]
    change = msgspec.convert(now, StatusChange, from_attributes=True)
    return msgspec.structs.replace(change, series=changed)
