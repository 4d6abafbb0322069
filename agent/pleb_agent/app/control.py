"""The local control API: JSON on loopback, for the CLI and later the page.

A web page that the user visits can make his browser send requests to 127.0.0.1, so each
request needs the token of `agentd.json`, our own Host, and no foreign Origin.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pleb_shared.errors import InputError, PlebError

__all__ = ["AttachWish", "Control", "DetachWish", "PauseWish", "StopWish", "control_app"]

_MOST_BODY_BYTES = 64 * 1024


class _Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of request bodies."""


W = TypeVar("W", bound=_Wish)
Act = Callable[[bytes], Awaitable[dict[str, Any]]]
Endpoint = Callable[[Request], Awaitable[Response]]


class AttachWish(_Wish, frozen=True):
    """Attach a project."""

    link: str
    invite: str | None = None
    name: Annotated[str, msgspec.Meta(max_length=64)] = ""


class DetachWish(_Wish, frozen=True):
    """Leave a project."""

    project: str


class PauseWish(_Wish, frozen=True):
    """Pause for so long, or until resumed."""

    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None


class StopWish(_Wish, frozen=True):
    """End the agent, at once or after the unit in hand."""

    finish: bool = False


class Control(Protocol):
    """What the API can do; agentd implements it."""

    def status(self) -> dict[str, Any]:
        """Return what the agent does."""

    async def attach(self, wish: AttachWish) -> dict[str, Any]:
        """Attach a project; return it."""

    async def detach(self, wish: DetachWish) -> dict[str, Any]:
        """Leave a project."""

    async def pause(self, wish: PauseWish) -> dict[str, Any]:
        """Pause."""

    async def resume(self) -> dict[str, Any]:
        """Go on."""

    async def stop(self, wish: StopWish) -> dict[str, Any]:
        """End."""


def control_app(control: Control, token: str, port: Callable[[], int]) -> Starlette:
    """Return the API. `port` is asked at each request, since it is free until the start."""
    acts: dict[tuple[str, str], Act] = {
        ("GET", "status"): lambda _: _soon(control.status()),
        ("POST", "attach"): lambda body: control.attach(_decode(body, AttachWish)),
        ("POST", "detach"): lambda body: control.detach(_decode(body, DetachWish)),
        ("POST", "pause"): lambda body: control.pause(_decode(body, PauseWish)),
        ("POST", "resume"): lambda _: control.resume(),
        ("POST", "stop"): lambda body: control.stop(_decode(body, StopWish)),
    }
    return Starlette(
        routes=[
            Route(f"/api/{name}", _guarded(act, token, port), methods=[method])
            for (method, name), act in acts.items()
        ]
    )


def _guarded(act: Act, token: str, port: Callable[[], int]) -> Endpoint:
    """Let only our own requests in; turn our errors into answers."""

    async def endpoint(request: Request) -> Response:
        if not _is_ours(request, token, port()):
            return _json({"message": "This address belongs to the agent alone."}, 403)
        try:
            return _json(await act(await _body(request)))
        except PlebError as error:
            return _json({"message": str(error), "exit_code": error.exit_code}, 400)

    return endpoint


async def _soon(value: dict[str, Any]) -> dict[str, Any]:
    return value


def _is_ours(request: Request, token: str, port: int) -> bool:
    hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
    origin = request.headers.get("origin")
    given = request.headers.get("authorization", "")
    return (
        request.headers.get("host") in hosts
        and (origin is None or origin.removeprefix("http://") in hosts)
        and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
    )


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            raise InputError("The request is too long.")
    return body


def _decode(body: bytes, kind: type[W]) -> W:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise InputError(f"The request is not understood: {error}.") from error


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
