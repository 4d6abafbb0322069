"""`/projects/P/status` (JSON) and `/projects/P/events` (Server-Sent Events)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import Response, StreamingResponse
from typing_extensions import override

from pleb_coordinator.api.access import readable_project
from pleb_coordinator.api.addresses import subscriber
from pleb_coordinator.api.requests import address_of
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.status import ProjectStatus, StatusChange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from pleb_coordinator.api.context import Api

__all__ = ["change_between", "check_project", "events", "family", "status"]

_ENCODE: Final = msgspec.json.Encoder().encode
_HEARTBEAT_SECONDS: Final = 15.0
_BETWEEN_SECONDS: Final = 0.5
"""At most this often a listener gets an event."""


async def status(api: Api, request: Request) -> Response:
    """Return the project's status; see `pleb_shared.protocol.status`."""
    name = request.path_params["project"]
    check_project(api, request)
    found = await api.statuses.of(name)
    headers = {"Cache-Control": "no-store"}
    return Response(_ENCODE(found), media_type="application/json", headers=headers)


async def family(api: Api, request: Request) -> Response:
    """Return a family's status, as `status` that of a project."""
    found = await api.statuses.family(request.path_params["family"])
    headers = {"Cache-Control": "no-store"}
    return Response(_ENCODE(found), media_type="application/json", headers=headers)


async def events(api: Api, request: Request) -> Response:
    """Send an `event: status` at once and after every change."""
    name = request.path_params["project"]
    check_project(api, request)
    first = await api.statuses.of(name)
    owner = subscriber(address_of(request))
    if api.listeners.is_full_for(owner):
        message = "Too many pages are open at your network address: close some, or reload later."
        raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=60)
    if api.listeners.is_full():
        message = "Too many pages are open: reload this page in a minute."
        raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=60)
    api.listeners.take(owner)
    stream = _stream(api, name, first, partial(check_project, api, request))
    return _EventStream(stream, partial(api.listeners.give_back, owner))


def check_project(api: Api, request: Request, *, invited: bool = False) -> None:
    """Return if the request may read the project that its path names; `invited` as elsewhere.

    Raises:
        Refusal: `unknown_project`.
    """
    with api.store.read() as tx:
        readable_project(tx, api, request, invited=invited)


class _EventStream(StreamingResponse):
    """Calls `at_end` however the stream ends, even if it never began."""

    def __init__(self, stream: AsyncIterator[bytes], at_end: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(stream, headers=headers, media_type="text/event-stream")
        self._at_end = at_end

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()


async def _stream(
    api: Api, name: str, now: ProjectStatus, check: Callable[[], None]
) -> AsyncIterator[bytes]:
    """Yield events until the process stops, or `check` refuses: somebody was removed."""
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
            try:
                check()
            except Refusal:
                return
            now = await api.statuses.of(name)


def change_between(before: ProjectStatus | None, now: ProjectStatus) -> StatusChange | None:
    """Return what has changed for a listener that saw `before`; None: nothing."""
    if before is not None and before == msgspec.structs.replace(now, updated_at=before.updated_at):
        return None
    known = [] if before is None or before.epoch != now.epoch else before.series
    seen = {point.version: point for point in known}
    changed = [point for point in now.series if seen.get(point.version) != point]
    change = msgspec.convert(now, StatusChange, from_attributes=True)
    return msgspec.structs.replace(change, series=changed)
