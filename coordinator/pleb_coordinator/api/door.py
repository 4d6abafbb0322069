"""The one door of every request: address limit, security headers, counting, typed errors.

What a route raises leaves here as a `RefusalBody` with the status of section 8 of
docs/protocol.md; whatever nobody expected becomes `internal` and a line in the log.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from pleb_shared.errors import EncodingError, PlebError, Refusal, RefusalCode
from pleb_shared.protocol.messages import RefusalBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pleb_coordinator.api.counters import Counters

__all__ = ["Door", "refusal_response"]

_log = logging.getLogger(__name__)
_INTERNAL: Final = "The coordinator failed at this request; its log says why. Try again later."
_ENCODE: Final = msgspec.json.Encoder().encode


class Door:
    """An ASGI middleware around all routes."""

    def __init__(
        self, app: ASGIApp, counters: Counters, address_is_open: Callable[[str], float]
    ) -> None:
        self._app = app
        self._counters = counters
        self._address_is_open = address_is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check_address(scope)
            await self._app(scope, receive, counted)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            refusal = _as_refusal(error, scope)
            self._counters.refusals[refusal.code.value] += 1
            if status:
                raise  # the answer has begun: the server breaks the connection off
            await refusal_response(refusal)(scope, receive, counted)
        finally:
            route = _route_name(scope)
            self._counters.served(route, status, time.perf_counter() - started)

    def _check_address(self, scope: Scope) -> None:
        client = scope.get("client")
        wait = self._address_is_open(client[0] if client else "")
        if wait:
            message = "Too many requests come from your network address: ask less often."
            raise Refusal(
                RefusalCode.RATE_LIMITED, message, retry_after_seconds=max(1, math.ceil(wait))
            )


def refusal_response(refusal: Refusal) -> Response:
    """Return the refusal as the protocol spells it."""
    body = RefusalBody(
        code=refusal.code,
        message=refusal.message,
        retry_after_seconds=refusal.retry_after_seconds,
    )
    headers = {}
    if refusal.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(refusal.retry_after_seconds))
    return Response(_ENCODE(body), refusal.http_status, headers, "application/json")


def _as_refusal(error: Exception, scope: Scope) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, EncodingError):
        return Refusal(error.code, str(error))
    fields = {"method": scope["method"], "path": scope["path"]}
    _log.error("A request failed", exc_info=error, extra=fields)
    if isinstance(error, PlebError):
        return Refusal(RefusalCode.INTERNAL, str(error), retry_after_seconds=30)
    return Refusal(RefusalCode.INTERNAL, _INTERNAL, retry_after_seconds=30)


def _route_name(scope: Scope) -> str:
    """Return the name of the route that served it: a closed set, unlike paths."""
    name = scope.get("state", {}).get("route")
    return name if isinstance(name, str) else "other"
