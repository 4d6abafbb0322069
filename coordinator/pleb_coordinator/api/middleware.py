"""Around every route: the rate limit of addresses, typed errors, counting.

What a route raises becomes a `RefusalBody` with the status of section 8 of docs/protocol.md; an
unexpected error becomes `internal` and a line in the log.
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

    from pleb_coordinator.api.counters import RequestCounters

__all__ = ["ErrorMiddleware", "refusal_response"]

_log = logging.getLogger(__name__)
_INTERNAL: Final = "The coordinator failed to answer; its log has the cause. Try again later."
_ENCODE: Final = msgspec.json.Encoder().encode


class ErrorMiddleware:
    """Refuses addresses that ask too often, answers errors, counts requests."""

    def __init__(
        self, app: ASGIApp, counters: RequestCounters, seconds_to_wait: Callable[[str], float]
    ) -> None:
        self._app = app
        self._counters = counters
        self._seconds_to_wait = seconds_to_wait

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
                raise  # the answer has begun: all the server can do is close the connection
            await refusal_response(refusal)(scope, receive, counted)
        finally:
            route = scope.get("state", {}).get("route", "other")  # a closed set, unlike paths
            self._counters.served(route, status, time.perf_counter() - started)

    def _check_address(self, scope: Scope) -> None:
        client = scope.get("client")
        if wait := self._seconds_to_wait(client[0] if client else ""):
            message = "Too many requests from your network address: ask less often."
            wait = max(1, math.ceil(wait))
            raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=wait)


def refusal_response(refusal: Refusal) -> Response:
    """Return the refusal as an HTTP response."""
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
