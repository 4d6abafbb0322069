"""Who may see the page, and what every answer of it tells the browser to forbid.

A request must name this machine and come from no other site (`guard`), carry the session's cookie,
and, if it changes something, the session's token. All others get a page that says what to do.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse, Response

from pleb_agent.web.guard import is_from_here
from pleb_agent.web.page_rendering import line, render
from pleb_agent.web.page_visit import Visit, words_of
from pleb_agent.web.translation import choose_language, words_for
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from pleb_agent.web.page_visit import PageParts

    Page = Callable[[Visit], Awaitable[Response]]

__all__ = ["PLACE_HEADER", "TOKEN_HEADER", "guarded", "is_admitted", "refused_page", "with_headers"]

TOKEN_HEADER: Final = "x-pleb-token"  # noqa: S105 - a name
PLACE_HEADER: Final = "x-pleb-place"
"""The id of the element that shows what is wrong with a request."""
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_PLACE_SIGNS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")

_REFUSED_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:18px/1.6 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1.5rem}"
    "h1{font-size:1.6rem;line-height:1.25}code{font:.92em ui-monospace,monospace}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_REFUSED_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def with_headers(response: Response) -> Response:
    """Return the answer with what the browser must forbid; headers it has stay."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def is_admitted(parts: PageParts, request: Request) -> bool:
    """Whether the request is from here, of a session, and may change what it changes."""
    sessions = parts.sessions
    cookie = request.cookies.get(sessions.cookie_name, "")
    if not is_from_here(request) or not sessions.is_valid(cookie):
        return False
    token = request.headers.get(TOKEN_HEADER, "")
    return request.method in _SAFE_METHODS or sessions.may_change(cookie, token)


def guarded(parts: PageParts, page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Let only the page's own sessions in; turn our errors into a sentence in its place."""

    async def endpoint(request: Request) -> Response:
        if not is_admitted(parts, request):
            return refused_page(parts, request)
        cookie = request.cookies[parts.sessions.cookie_name]
        token = parts.sessions.change_token(cookie)
        visit = Visit(parts, request, words_of(request, parts), token)
        try:
            return with_headers(await page(visit))
        except PlebError as error:
            return with_headers(_problem(visit, error))

    return endpoint


def refused_page(parts: PageParts, request: Request, sentence: str = "") -> Response:
    """Return the answer to everybody else."""
    html = render(
        "refused.html",
        words_for(choose_language("", request.headers.get("accept-language", ""))),
        now=parts.clock(),
        local_time=parts.local_time,
        style=_REFUSED_STYLE,
        sentence=sentence,
    )
    response = HTMLResponse(html, 403)
    response.headers["Content-Security-Policy"] = _POLICY.replace(
        "style-src 'self'", f"style-src 'sha256-{_STYLE_HASH}'"
    )
    return with_headers(response)


def _problem(visit: Visit, error: PlebError) -> Response:
    """Return the error's sentence: beside the form that was sent, or as a page of its own."""
    sentence = line(visit.words.text(str(error)))
    if "hx-request" not in visit.request.headers:
        return visit.page("problem.html", status_code=400, sentence=sentence)
    response = visit.page("problem_part.html", status_code=422, sentence=sentence)
    place = visit.request.headers.get(PLACE_HEADER, "")
    if not place or not set(place) <= _PLACE_SIGNS:
        place = "problem"
    response.headers["HX-Retarget"] = f"#{place}"
    response.headers["HX-Reswap"] = "innerHTML"
    return response
