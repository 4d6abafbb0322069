"""The page's routes: one address each for people, small parts of them for htmx."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
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
from pleb_agent.web.logins import COOKIE_SECONDS, CodeError
from pleb_agent.web.page_events import show_events
from pleb_agent.web.page_visit import guarded, refused_page, with_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from pleb_agent.web.page_visit import PageContext, Visit

__all__ = ["FILES", "STATIC", "page_routes"]

STATIC: Final = Path(__file__).parent / "static"
_SCRIPT, _STYLE, _DRAWING = "text/javascript", "text/css", "image/svg+xml"
FILES: Final[dict[str, str]] = {
    "icon.svg": _DRAWING,
    "page.css": _STYLE,
    "page.js": _SCRIPT,
    "plots.js": _SCRIPT,
    "theme.js": _SCRIPT,
    "vendor/htmx.min.js": _SCRIPT,
    "vendor/uPlot.iife.min.js": _SCRIPT,
    "vendor/uPlot.min.css": _STYLE,
}
"""Nothing else is served, whatever a path says."""


def page_routes(context: PageContext) -> list[Route]:
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
        Route("/open", _opening(context), methods=["GET"]),
        *(Route(path, guarded(context, page), methods=["GET"]) for path, page in get.items()),
        *(Route(path, guarded(context, page), methods=["POST"]) for path, page in post.items()),
    ]


async def show_file(visit: Visit) -> Response:
    """Return one of the files."""
    name = visit.request.path_params["name"]
    kind = FILES.get(name)
    if kind is None:
        return Response("No such file.", 404, media_type="text/plain")
    return Response(
        (STATIC / name).read_bytes(),
        media_type=kind,
        headers={"Cache-Control": "private, max-age=60"},
    )


async def _favicon(_: Request) -> Response:
    """Browsers ask for it even if a page names another icon."""
    return with_headers(Response(status_code=204))


def _opening(context: PageContext) -> Callable[[Request], Awaitable[Response]]:
    """Exchange a code for a cookie, then redirect to the page that was asked for."""

    async def endpoint(request: Request) -> Response:
        logins = context.logins
        known = request.cookies.get(logins.cookie_name, "")
        if not is_from_here(request):
            return refused_page(context, request)
        answer = RedirectResponse(_asked_for(request), 303)
        try:
            cookie = logins.redeem(request.query_params.get("code", ""))
        except CodeError as error:
            # A browser that fetched the address ahead of the click has its cookie already.
            if logins.is_valid(known):
                return with_headers(answer)
            return refused_page(context, request, str(error))
        answer.set_cookie(
            logins.cookie_name,
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
