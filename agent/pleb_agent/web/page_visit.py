"""One request to the page: who may make it, in which language, and what every answer forbids.

A request must name this machine and come from no other site (`guard`), carry the log-in's cookie,
and, if it changes something, the log-in's token. All others get a page that says what to do.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from starlette.responses import HTMLResponse, RedirectResponse, Response

from pleb_agent.translation.words import choose_language, words_for
from pleb_agent.web.guard import is_from_here, read_body
from pleb_agent.web.page_rendering import line, render
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from time import struct_time

    from starlette.requests import Request

    from pleb_agent.control.controller import Controller
    from pleb_agent.control.household_control import HouseholdControl
    from pleb_agent.control.status_reader import StatusReader
    from pleb_agent.translation.words import Words
    from pleb_agent.web.guard import BrowserLogins

    Page = Callable[["Visit"], Awaitable[Response]]

__all__ = ["PageContext", "Visit", "guarded", "refused_page", "with_headers", "words_of"]

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
_MOST_FIELDS: Final = 400


@dataclass(frozen=True)
class PageContext:
    """What all pages share. `local_time` turns seconds since 1970 into local time."""

    controller: Controller
    logins: BrowserLogins
    clock: Callable[[], float]
    local_time: Callable[[float], struct_time]
    household: HouseholdControl | None = None


@dataclass(frozen=True)
class Visit:
    """A request from a browser that has logged in."""

    context: PageContext
    request: Request
    words: Words
    change_token: str

    @property
    def controller(self) -> Controller:
        """What changes the agent."""
        return self.context.controller

    @property
    def reader(self) -> StatusReader:
        """What shows the agent."""
        return self.context.controller.reader

    def query(self, name: str) -> str:
        """Return a value of the address; empty if it has none."""
        return self.request.query_params.get(name, "")

    async def form(self) -> dict[str, str]:
        """Return the fields of a form; of equal names the last.

        Raises:
            InputError: the body is too long, or not a form.
        """
        body = await read_body(self.request)
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError as error:
            raise InputError("The form is not understood; reload the page.") from error
        return dict(pairs)

    def html(self, template: str, /, **values: Any) -> str:
        """Return a rendered template."""
        return render(
            template,
            self.words,
            now=self.context.clock(),
            local_time=self.context.local_time,
            change_token=self.change_token,
            path=self.request.url.path,
            **({"status": self.reader.status(), "view": ""} | values),
        )

    def page(self, template: str, /, *, status_code: int = 200, **values: Any) -> Response:
        """Return a whole page, or a part of one, as an answer."""
        return HTMLResponse(self.html(template, **values), status_code)

    def go_to(self, address: str) -> Response:
        """Send the browser to another of our pages."""
        if "hx-request" in self.request.headers:
            return Response(status_code=204, headers={"HX-Redirect": address})
        return RedirectResponse(address, 303)


def words_of(request: Request, context: PageContext) -> Words:
    """Return the reader's language: the preference, else what the browser asks for."""
    preferred = context.controller.reader.preferences().values.language
    return words_for(choose_language(preferred, request.headers.get("accept-language", "")))


def with_headers(response: Response) -> Response:
    """Return the answer with the security headers; headers that it has stay."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def is_admitted(context: PageContext, request: Request) -> bool:
    """Whether the request is from here and logged in, and may make its change."""
    logins = context.logins
    cookie = request.cookies.get(logins.cookie_name, "")
    if not is_from_here(request) or not logins.is_valid(cookie):
        return False
    token = request.headers.get(TOKEN_HEADER, "")
    return request.method in _SAFE_METHODS or logins.may_change(cookie, token)


def guarded(context: PageContext, page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Admit logged-in browsers only; show errors where the page expects them."""

    async def endpoint(request: Request) -> Response:
        if not is_admitted(context, request):
            return refused_page(context, request)
        cookie = request.cookies[context.logins.cookie_name]
        token = context.logins.change_token(cookie)
        visit = Visit(context, request, words_of(request, context), token)
        try:
            return with_headers(await page(visit))
        except PlebError as error:
            return with_headers(_problem(visit, error))

    return endpoint


def refused_page(context: PageContext, request: Request, sentence: str = "") -> Response:
    """Return the answer to all other requests."""
    html = render(
        "refused.html",
        words_for(choose_language("", request.headers.get("accept-language", ""))),
        now=context.clock(),
        local_time=context.local_time,
        style=_REFUSED_STYLE,
        sentence=sentence,
    )
    response = HTMLResponse(html, 403)
    response.headers["Content-Security-Policy"] = _POLICY.replace(
        "style-src 'self'", f"style-src 'sha256-{_STYLE_HASH}'"
    )
    return with_headers(response)


def _problem(visit: Visit, error: PlebError) -> Response:
    """Return the error's sentence: next to the form that was sent, or as a page of its own."""
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
