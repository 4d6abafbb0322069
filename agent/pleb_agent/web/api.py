"""The control API: JSON on loopback, for the command line and the tray.

Each request carries the token of `HOME/agentd.json`; `guard` says what else is checked.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pleb_agent.control.requests import (
    AccountLinkRequest,
    AttachRequest,
    AutostartRequest,
    BoostRequest,
    DetachRequest,
    PageRequest,
    PauseRequest,
    PreferencesRequest,
    PresetRequest,
    PreviewRequest,
    RequestBody,
    RuntimeRequest,
    StopRequest,
)
from pleb_agent.control.views import PageAddress
from pleb_agent.web.guard import is_bearer, read_body, refused
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.requests import Request

    from pleb_agent.control.controller import Controller
    from pleb_agent.control.views import StatusView
    from pleb_agent.web.logins import BrowserLogins

    Act = Callable[[Request], Awaitable[Any]]

__all__ = ["api_routes", "decode"]

B = TypeVar("B", bound=RequestBody)


def api_routes(controller: Controller, token: str, logins: BrowserLogins) -> list[Route]:
    """Return `/api/...`."""
    reader = controller.reader
    reads: dict[str, Callable[[Mapping[str, str]], Any]] = {
        "status": lambda _: reader.status(),
        "preferences": lambda _: reader.preferences(),
        "autostart": lambda _: controller.autostart.view(),
        "contribution": lambda query: reader.contribution(_number(query, "days", 30)),
        "history": lambda query: reader.history(
            before=_number(query, "before", 0) or None, count=_number(query, "count", 50)
        ),
        "log": lambda query: reader.log(_number(query, "lines", 100)),
        "facts": lambda query: reader.facts(query.get("project", "")),
        "curve": lambda query: reader.curve(query.get("project", "")),
    }
    acts: dict[str, tuple[type[RequestBody], Callable[[Any], Any]]] = {
        "preview": (PreviewRequest, lambda body: reader.preview(body.link)),
        "attach": (AttachRequest, controller.attach),
        "detach": (DetachRequest, controller.detach),
        "link": (AccountLinkRequest, controller.account_link),
        "pause": (PauseRequest, controller.pause),
        "boost": (BoostRequest, controller.boost),
        "resume": (RequestBody, lambda _: controller.resume()),
        "stop": (StopRequest, controller.stop),
        "preferences": (PreferencesRequest, controller.set_preferences),
        "preset": (PresetRequest, controller.apply_preset),
        "autostart": (AutostartRequest, controller.set_autostart),
        "runtime": (RuntimeRequest, controller.fetch_runtime),
        "update": (RequestBody, lambda _: controller.install_update()),
    }

    async def open_page(request: Request) -> PageAddress:
        body = decode(await read_body(request), PageRequest)
        link = f"&link={quote(body.link, safe='')}" if body.link else ""
        port = request.scope["server"][1]
        return PageAddress(url=f"http://127.0.0.1:{port}/open?code={logins.new_code()}{link}")

    async def events(request: Request) -> Response:
        if not is_bearer(request, token):
            return refused()
        return StreamingResponse(
            _lines(reader.changes()),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    return [
        *(_route(name, "GET", _on_query(read), token) for name, read in reads.items()),
        *(_route(name, "POST", _on_body(kind, act), token) for name, (kind, act) in acts.items()),
        _route("page", "POST", open_page, token),
        Route("/api/events", events, methods=["GET"]),
    ]


def decode(body: bytes, kind: type[B]) -> B:
    """Return the request of a body.

    Raises:
        InputError: the body cannot be read as one.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"The request is not understood: {error}.") from error


def _on_query(read: Callable[[Mapping[str, str]], Any]) -> Act:
    async def act(request: Request) -> Any:
        answer = read(request.query_params)
        return await answer if inspect.isawaitable(answer) else answer

    return act


def _on_body(kind: type[RequestBody], do: Callable[[Any], Any]) -> Act:
    async def act(request: Request) -> Any:
        answer = do(decode(await read_body(request), kind))
        return await answer if inspect.isawaitable(answer) else answer

    return act


def _route(name: str, method: str, act: Act, token: str) -> Route:
    """Return a route that admits only our own programs, and answers errors as JSON."""

    async def endpoint(request: Request) -> Response:
        if not is_bearer(request, token):
            return refused()
        try:
            return _json(await act(request))
        except PlebError as error:
            return _json({"message": str(error), "exit_code": error.exit_code}, 400)

    return Route(f"/api/{name}", endpoint, methods=[method])


async def _lines(changes: AsyncIterator[StatusView]) -> AsyncIterator[bytes]:
    """Yield server-sent events: the status at each change."""
    async for status in changes:
        yield b"data: " + msgspec.json.encode(status) + b"\n\n"


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 15:
        raise InputError(f"{name} must be a whole number.")
    return int(text)


def _json(value: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
