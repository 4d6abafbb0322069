"""The protocol's routes (docs/protocol.md, section 2) and those for monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.routing import Route

from pleb_coordinator.api.blob_files import blob, parts
from pleb_coordinator.api.enrolment import enrol, metadata
from pleb_coordinator.api.health import health, metrics, ready
from pleb_coordinator.api.history import log_entries, log_head, log_versions, metadata_at, version
from pleb_coordinator.api.publishing import ask_to_publish, coordinator, hand_in, publish, records
from pleb_coordinator.api.showcase import showcase
from pleb_coordinator.api.status_routes import events, family, status
from pleb_coordinator.api.uploads import direct_parts, head_upload, land_upload, patch_upload
from pleb_coordinator.api.work import work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from pleb_coordinator.api.context import Api

    Handler = Callable[[Api, Request], Awaitable[Response]]

__all__ = ["api_routes", "route"]


def api_routes(api: Api, *, public_metrics: bool = True) -> list[Route]:
    """Return every route that is not a page, the busiest first: routes are tried in order."""
    monitoring = [route(api, "GET", "/metrics", metrics)] if public_metrics else []
    return [
        route(api, "POST", "/projects/{project}/work", work),
        route(api, "GET", "/blobs/{digest}", blob),
        route(api, "GET", "/parts/{digest}", parts),
        route(api, "PATCH", "/uploads/{token}", patch_upload),
        route(api, "HEAD", "/uploads/{token}", head_upload),
        route(api, "GET", "/uploads/{token}/parts", direct_parts),
        route(api, "POST", "/uploads/{token}/landed", land_upload),
        route(api, "GET", "/projects/{project}/metadata", metadata),
        route(api, "POST", "/projects/{project}/metadata", hand_in),
        route(api, "POST", "/projects/{project}/records", records),
        route(api, "POST", "/projects/{project}/enrol", enrol),
        route(api, "GET", "/projects/{project}/status", status),
        route(api, "GET", "/projects/{project}/events", events),
        route(api, "GET", "/projects/{project}/showcase", showcase),
        route(api, "GET", "/families/{family}/status", family),
        route(api, "POST", "/publish", publish),
        route(api, "POST", "/publish/question", ask_to_publish),
        route(api, "GET", "/projects/{project}/metadata/{number:int}", metadata_at),
        route(api, "GET", "/projects/{project}/versions/{epoch:int}/{version}", version),
        route(api, "GET", "/projects/{project}/log-entries", log_entries),
        route(api, "GET", "/projects/{project}/log-head", log_head),
        route(api, "GET", "/projects/{project}/log.jsonl", log_versions),
        route(api, "GET", "/coordinator", coordinator),
        route(api, "GET", "/health", health),
        route(api, "GET", "/ready", ready),
        *monitoring,
    ]


def route(api: Api, method: str, path: str, handler: Handler) -> Route:
    """Return a route that calls `handler` with the process's context and is counted by its name."""
    return Route(path, _Endpoint(api, handler), methods=[method], name=handler.__name__)


class _Endpoint:
    """A handler as an application: starlette would wrap a function once more."""

    def __init__(self, api: Api, handler: Handler) -> None:
        self._api = api
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive, send)
        request.state.route = self._handler.__name__
        response = await self._handler(self._api, request)
        await response(scope, receive, send)
