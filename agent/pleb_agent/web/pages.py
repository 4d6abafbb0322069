"""The page's routes: one address each for people, small parts of them for htmx."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pleb_agent.web import (
    page_given,
    page_history,
    page_now,
    page_preferences,
    page_projects,
    page_welcome,
)
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
        "/given": page_given.show_given,
        "/given/curve": page_given.show_curve,
        "/projects": page_projects.show_projects,
        "/preferences": page_preferences.show_preferences,
        "/history": page_history.show_history,
        "/log": page_history.show_log,
        "/welcome": page_welcome.show_welcome,
        "/welcome/project": page_welcome.show_project,
        "/welcome/facts": page_welcome.show_facts,
        "/welcome/limits": page_welcome.show_limits,
        "/welcome/unit": page_welcome.show_first_unit,
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
        "/projects/share": page_projects.set_share,
        "/projects/link": page_projects.link,
        "/projects/detach": page_projects.detach,
        "/preferences/set": page_preferences.set_preference,
        "/preferences/preset": page_preferences.take_preset,
        "/preferences/autostart": page_preferences.set_autostart,
        "/welcome/look": page_welcome.look,
        "/welcome/attach": page_welcome.attach,
        "/welcome/train": page_welcome.train_now,
        "/welcome/done": page_welcome.finish,
    }
    return [
        Route("/favicon.ico", _favicon, methods=["GET"]),
        Route("/open", _opening(parts), methods=["GET"]),
        *(Route(path, guarded(parts, page), methods=["GET"]) for path, page in get.items()),
        *(Route(path, guarded(parts, page), methods=["POST"]) for path, page in post.items()),
    ]


async def _favicon(_: Request) -> Response:
    """Browsers ask for it even if a page names another; there is nothing to tell."""
    return with_headers(Response(status_code=204))


def _opening(parts: PageParts) -> Callable[[Request], Awaitable[Response]]:
    """Change a code for a cookie, and go on to what was asked for."""

    async def endpoint(request: Request) -> Response:
        sessions = parts.sessions
        known = request.cookies.get(sessions.cookie_name, "")
        if not is_from_here(request):
            return refused_page(parts, request)
        answer = RedirectResponse(_asked_for(request), 303)
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


def _asked_for(request: Request) -> str:
    """Return the welcome of the project of `link`, the preferences for `part`, or the now page."""
    link = request.query_params.get("link", "")
    if link:
        return f"/welcome?link={quote(link, safe='')}"
    return "/preferences" if request.query_params.get("part") == "preferences" else "/"
