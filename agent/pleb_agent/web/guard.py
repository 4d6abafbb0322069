"""Who may use the loopback server: this user's own programs, and the page that they opened.

A web page that the user visits can make the browser send requests to 127.0.0.1, under a name of
its own (DNS rebinding) or from its own origin. So each request needs a secret that only this user
can read, a Host that means this machine, and no foreign Origin. The Host's port is not compared:
through an SSH tunnel it differs.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import Response

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["is_bearer", "is_from_here", "read_body", "refused"]

_MOST_BODY_BYTES: Final = 64 * 1024
_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


def is_from_here(request: Request) -> bool:
    """Whether the request names this machine, and comes from no other site's page."""
    host = request.headers.get("host", "")
    name, _, port = host.rpartition(":")
    name = name if port.isdecimal() else host
    origins = request.headers.getlist("origin")
    return name in _NAMES and all(origin == f"http://{host}" for origin in origins)


def is_bearer(request: Request, token: str) -> bool:
    """Whether the request is from here and carries the token of `HOME/agentd.json`."""
    given = request.headers.get("authorization", "")
    return is_from_here(request) and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def refused() -> Response:
    """Return the answer to all other requests."""
    return Response(
        msgspec.json.encode({"message": "This address is for the agent's own programs alone."}),
        403,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


async def read_body(request: Request) -> bytes:
    """Return the request's body.

    Raises:
        InputError: it is too long.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            raise InputError("The request is too long.")
    return body
