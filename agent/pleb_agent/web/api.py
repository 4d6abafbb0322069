"""The control API: JSON on loopback, for the CLI and the tray.

Each request carries the token of `HOME/agentd.json`; `guard` says why more is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pleb_agent.web.control import (
    AttachWish,
    AutostartWish,
    BoostWish,
    DetachWish,
    LinkWish,
    LookWish,
    PageWish,
    PauseWish,
    PreferencesWish,
    PresetWish,
    RuntimeWish,
    StopWish,
    Wish,
)
from pleb_agent.web.guard import is_bearer, read_body, refused
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from pleb_agent.web.control import Control
    from pleb_agent.web.views import StatusView

__all__ = ["api_routes", "decode"]

W = TypeVar("W", bound=Wish)
Act = Callable[["Request", bytes], Awaitable[Any]]


def api_routes(control: Control, token: str) -> list[Route]:
    """Return `/api/...`."""
    acts: dict[tuple[str, str], Act] = {
        ("GET", "status"): lambda _, __: _soon(control.status()),
        ("GET", "preferences"): lambda _, __: _soon(control.preferences()),
        ("GET", "autostart"): lambda _, __: _soon(control.autostart()),
        ("GET", "contribution"): lambda r, _: _soon(control.contribution(_number(r, "days", 30))),
        ("GET", "history"): lambda r, _: _soon(
            control.history(before=_number(r, "before", 0) or None, count=_number(r, "count", 50))
        ),
        ("GET", "log"): lambda r, _: _soon(control.log(_number(r, "lines", 100))),
        ("GET", "facts"): lambda r, _: _soon(control.facts(r.query_params.get("project", ""))),
        ("GET", "curve"): lambda r, _: control.curve(r.query_params.get("project", "")),
        ("POST", "look"): lambda _, body: control.look_at(decode(body, LookWish)),
        ("POST", "attach"): lambda _, body: control.attach(decode(body, AttachWish)),
        ("POST", "detach"): lambda _, body: control.detach(decode(body, DetachWish)),
        ("POST", "link"): lambda _, body: control.link(decode(body, LinkWish)),
        ("POST", "pause"): lambda _, body: control.pause(decode(body, PauseWish)),
        ("POST", "boost"): lambda _, body: control.boost(decode(body, BoostWish)),
        ("POST", "resume"): lambda _, __: control.resume(),
        ("POST", "stop"): lambda _, body: control.stop(decode(body, StopWish)),
        ("POST", "preferences"): lambda _, body: control.set_preferences(
            decode(body, PreferencesWish)
        ),
        ("POST", "preset"): lambda _, body: control.take_preset(decode(body, PresetWish)),
        ("POST", "autostart"): lambda _, body: control.set_autostart(decode(body, AutostartWish)),
        ("POST", "runtime"): lambda _, body: control.fetch_runtime(decode(body, RuntimeWish)),
        ("POST", "update"): lambda _, __: control.install_update(),
        ("POST", "page"): lambda _, body: _soon(control.page_address(decode(body, PageWish))),
    }
    routes = [
        Route(f"/api/{name}", _guarded(act, token), methods=[method])
        for (method, name), act in acts.items()
    ]
    return [*routes, Route("/api/events", _events(control, token), methods=["GET"])]


def decode(body: bytes, kind: type[W]) -> W:
    """Return the wish that a body spells.

    Raises:
        InputError: it spells none.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"The request is not understood: {error}.") from error


def _guarded(act: Act, token: str) -> Callable[[Request], Awaitable[Response]]:
    """Let only our own requests in; turn our errors into answers."""

    async def endpoint(request: Request) -> Response:
        if not is_bearer(request, token):
            return refused()
        try:
            return _json(await act(request, await read_body(request)))
        except PlebError as error:
            return _json({"message": str(error), "exit_code": error.exit_code}, 400)

    return endpoint


def _events(control: Control, token: str) -> Callable[[Request], Awaitable[Response]]:
    """Server-sent events: the status at each change."""

    async def endpoint(request: Request) -> Response:
        if not is_bearer(request, token):
            return refused()
        return StreamingResponse(
            _lines(control.changes()),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    return endpoint


async def _lines(changes: AsyncIterator[StatusView]) -> AsyncIterator[bytes]:
    async for status in changes:
        yield b"data: " + msgspec.json.encode(status) + b"\n\n"


async def _soon(value: Any) -> Any:
    return value


def _number(request: Request, name: str, usual: int) -> int:
    text = request.query_params.get(name, str(usual))
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
