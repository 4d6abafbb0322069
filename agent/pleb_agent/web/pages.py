"""The page's routes: one address each for people, small parts of them for htmx."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pleb_agent.web import page_now
from pleb_agent.web.guard import is_from_here
from pleb_agent.web.page_door import guarded, refused_page, with_headers
from pleb_agent.web.page_events import show_events
from pleb_agent.web.page_files import show_file
from pleb_agent.web.sessions import COOKIE_SECONDS, CodeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from pleb_agent.web.page_visit import PageParts, Visit

__all__ = ["page_routes"]


def page_routes(parts: PageParts) -> list[Route]:
    """Return the routes of the page."""
    get: dict[str, Callable[[Visit], Awaitable[Response]]] = {
        "/": page_now.show_now,
        "/events": show_events,
        "/static/{name:path}": show_file,
    }
    post: dict[str, Callable[[Visit], Awaitable[Response]]] = {
        "/now/pause": page_now.pause,
        "/now/boost": page_now.boost,
        "/now/resume": page_now.resume,
        "/now/stop": page_now.stop,
        "/now/runtime": page_now.fetch_runtime,
        "/now/update": page_now.install_update,
    }
    return [
        Route("/open", _opening(parts), methods=["GET"]),
        *(Route(path, guarded(parts, page), methods=["GET"]) for path, page in get.items()),
        *(Route(path, guarded(parts, page), methods=["POST"]) for path, page in post.items()),
    ]


def _opening(parts: PageParts) -> Callable[[Request], Awaitable[Response]]:
    """Change a code for a cookie. `link`: go on to the welcome of that project."""

    async def endpoint(request: Request) -> Response:
        sessions = parts.sessions
        known = request.cookies.get(sessions.cookie_name, "")
        if not is_from_here(request):
            return refused_page(parts, request)
        link = request.query_params.get("link", "")
        answer = RedirectResponse(f"/welcome?link={quote(link, safe='')}" if link else "/", 303)
        try:
            cookie = sessions.redeem(request.query_params.get("code", ""))
        except CodeError as error:
            # A browser that fetched the address ahead of the click has its cookie already.
            if sessions.is_valid(known):
                return with_headers(answer)
            return refused_page(parts, request, str(error))
        answer.set_cookie(
            sessions.cookie_name,
            cookie,
            max_age=COOKIE_SECONDS,
            path="/",
            httponly=True,
            samesite="strict",
        )
        return with_headers(answer)

    return endpoint
