"""One request to the page: who asks, in which language, and what to answer with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.responses import HTMLResponse, RedirectResponse, Response

from pleb_agent.web.guard import read_body
from pleb_agent.web.page_rendering import render
from pleb_agent.web.translation import choose_language, words_for
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from time import struct_time

    from starlette.requests import Request

    from pleb_agent.web.control import Control
    from pleb_agent.web.sessions import Sessions
    from pleb_agent.web.translation import Words

__all__ = ["PageParts", "Visit", "words_of"]

_MOST_FIELDS = 400


@dataclass(frozen=True)
class PageParts:
    """What all pages work with. `local_time` turns seconds since 1970 into the wall clock's."""

    control: Control
    sessions: Sessions
    clock: Callable[[], float]
    local_time: Callable[[float], struct_time]


@dataclass(frozen=True)
class Visit:
    """A request of somebody who may see the page."""

    parts: PageParts
    request: Request
    words: Words
    change_token: str

    @property
    def control(self) -> Control:
        """The agent that the page shows."""
        return self.parts.control

    def query(self, name: str) -> str:
        """Return a value of the address; empty if it has none."""
        return self.request.query_params.get(name, "")

    async def form(self) -> dict[str, str]:
        """Return what a form sent; of equal names the last.

        Raises:
            InputError: it is no form, or too long.
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
            now=self.parts.clock(),
            local_time=self.parts.local_time,
            change_token=self.change_token,
            path=self.request.url.path,
            **({"status": self.control.status(), "view": ""} | values),
        )

    def page(self, template: str, /, *, status_code: int = 200, **values: Any) -> Response:
        """Return a whole page, or a part of one, as an answer."""
        return HTMLResponse(self.html(template, **values), status_code)

    def go_to(self, address: str) -> Response:
        """Send the browser to another of our pages."""
        if "hx-request" in self.request.headers:
            return Response(status_code=204, headers={"HX-Redirect": address})
        return RedirectResponse(address, 303)


def words_of(request: Request, parts: PageParts) -> Words:
    """Return the reader's language: the preference, else what the browser asks for."""
    preferred = parts.control.preferences().values.language
    return words_for(choose_language(preferred, request.headers.get("accept-language", "")))
