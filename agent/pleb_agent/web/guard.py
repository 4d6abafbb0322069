"""Who may use the loopback server: this user's own programs, and the page that they opened.

A web page that the user visits can make the browser send requests to 127.0.0.1, under a name of
its own (DNS rebinding) or from its own origin. So each request needs a secret that only this user
can read, a Host that means this machine, and no foreign Origin. The Host's port is not compared:
through an SSH tunnel it differs.

A browser logs in with a code: `pleb-agent open` asks agentd for one and hands it to the browser in
an address. It works once, within a minute, and is exchanged for a cookie. The cookie is signed with
a secret that is kept in the home, so a page stays open over a restart of agentd; deleting the
secret ends all log-ins. Cookies are shared by all ports of a host name, so each home has a cookie
name of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

__all__ = [
    "CODE_SECONDS",
    "COOKIE_SECONDS",
    "SECRET_BYTES",
    "BrowserLogins",
    "CodeError",
    "bearer_of",
    "is_bearer",
    "is_from_here",
    "json_response",
    "read_body",
    "refused",
]

CODE_SECONDS: Final = 60.0
COOKIE_SECONDS: Final = 90 * 86_400
SECRET_BYTES: Final = 32
_MOST_CODES: Final = 8
_TOKEN_BYTES: Final = 24
_LONGEST_COOKIE: Final = 200
_LONGEST_TOKEN: Final = 200
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


def bearer_of(request: Request) -> str:
    """Return the token that a request carries; empty: none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip()[:_LONGEST_TOKEN] if kind == "Bearer" else ""


def refused() -> Response:
    """Return the answer to all other requests."""
    return json_response({"message": "This address is for the agent's own programs alone."}, 403)


def json_response(value: Any, status: int = 200) -> Response:
    """Return an answer that no cache keeps."""
    return Response(
        msgspec.json.encode(value),
        status,
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


class CodeError(InputError):
    """The code was used before, has expired, or was never issued."""


class BrowserLogins:
    """Issues codes, and checks the cookies that were issued for them.

    Args:
        secret: at least `SECRET_BYTES` bytes that stay the same for one home.
        clock: seconds since 1970.
        draw: returns that many unpredictable bytes.
    """

    def __init__(
        self, secret: bytes, clock: Callable[[], float], draw: Callable[[int], bytes]
    ) -> None:
        if len(secret) < SECRET_BYTES:
            raise InputError(f"The page's secret must have at least {SECRET_BYTES} bytes.")
        self._secret = secret
        self.clock = clock
        self._draw = draw
        self._codes: dict[bytes, float] = {}
        self.cookie_name: str = "pleb_" + self._sign("name", "")[:12]

    def new_code(self) -> str:
        """Return a code that opens the page once, within `CODE_SECONDS`."""
        code = self._draw(_TOKEN_BYTES).hex()
        self._forget_old_codes()
        while len(self._codes) >= _MOST_CODES:
            del self._codes[next(iter(self._codes))]
        self._codes[_digest(code)] = self.clock() + CODE_SECONDS
        return code

    def redeem(self, code: str) -> str:
        """Return the cookie's value for a code, which cannot be used again.

        Raises:
            CodeError: it was used before, has expired, or was never issued.
        """
        self._forget_old_codes()
        if self._codes.pop(_digest(code), None) is None:
            raise CodeError(
                "This address works only once, for one minute; `pleb-agent open` makes a new one."
            )
        body = f"{int(self.clock())}.{self._draw(_TOKEN_BYTES).hex()}"
        return f"{body}.{self._sign('cookie', body)}"

    def is_valid(self, cookie: str) -> bool:
        """Whether `redeem` of this home issued it, at most `COOKIE_SECONDS` ago."""
        body, _, signature = cookie.rpartition(".")
        given_at = body.partition(".")[0]
        return (
            len(cookie) <= _LONGEST_COOKIE
            and hmac.compare_digest(signature.encode(), self._sign("cookie", body).encode())
            and given_at.isdecimal()
            and self.clock() - int(given_at) <= COOKIE_SECONDS
        )

    def change_token(self, cookie: str) -> str:
        """Return the token that a page of this log-in sends with each change (CSRF)."""
        return self._sign("change", cookie)

    def may_change(self, cookie: str, token: str) -> bool:
        """Whether the token belongs to the log-in."""
        return hmac.compare_digest(token.encode(), self.change_token(cookie).encode())

    def _forget_old_codes(self) -> None:
        now = self.clock()
        self._codes = {code: until for code, until in self._codes.items() if now <= until}

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.digest(self._secret, f"{purpose}\n{text}".encode(), hashlib.sha256).hex()


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
