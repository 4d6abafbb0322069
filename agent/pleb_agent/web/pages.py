"""The page's routes: one address each for people, parts of them for htmx, and their stream.

The stream sends server-sent events: parts of the page, rendered, when they have changed. A page
names its `view`; the stream begins with all parts of it, so that a page which lost its connection
(agentd restarted, the tab slept) is up to date again at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from pleb_agent.web import (
    page_history,
    page_household,
    page_log,
    page_now,
    page_preferences,
    page_projects,
    page_receipts,
    page_rules,
    page_units,
    page_welcome,
)
from pleb_agent.web.guard import COOKIE_SECONDS, CodeError, is_from_here
from pleb_agent.web.page_visit import guarded, refused_page, with_headers
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from pleb_agent.control.views import StatusView
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
_EVERYWHERE: Final = {"pill": "pill.html", "said": "said.html"}
_VIEWS: Final[dict[str, dict[str, str]]] = {
    "now": {
        "now-state": "now_state.html",
        "now-controls": "now_controls.html",
        "now-unit": "now_unit.html",
        "now-devices": "now_devices.html",
        "now-offers": "now_offers.html",
        "now-cards": "now_cards.html",
    },
    "first-unit": {"first-unit": "first_unit.html"},
    "projects": {"project-cards": "project_cards.html"},
    "units": {"units-list": "units_list.html"},
}
"""Each view's parts: element id and template."""
_VALUES: Final[dict[str, Callable[[Visit, StatusView], dict[str, Any]]]] = {
    "now": lambda visit, status: page_now.now_values(visit.reader, status),
    "first-unit": lambda visit, status: page_welcome.first_unit_values(visit.reader, status),
    "projects": lambda visit, status: page_projects.project_values(visit.reader, status),
    "units": page_units.units_values,
}
"""What the parts of a view need."""


def page_routes(context: PageContext) -> list[Route]:
    """Return the routes of the page."""
    get: dict[str, Callable[[Visit], Awaitable[Response]]] = {
        "/": page_now.show_now,
        "/given": page_history.show_given,
        "/given/curve": page_history.show_curve,
        "/given/receipts": page_receipts.show_receipts,
        "/given/receipts.csv": page_receipts.save_receipts,
        "/given/year.svg": page_receipts.draw_year,
        "/now/quality": page_now.show_quality,
        "/household": page_household.show_household,
        "/household/members": page_household.show_members,
        "/units": page_units.show_units,
        "/projects": page_projects.show_projects,
        "/preferences": page_preferences.show_preferences,
        "/history": page_history.show_history,
        "/log": page_log.show_log,
        "/log/save": page_log.save_log,
        "/log/report": page_log.save_report,
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
        "/now/device": page_now.pause_device,
        "/now/stop": page_now.stop,
        "/now/runtime": page_now.fetch_runtime,
        "/now/update": page_now.install_update,
        "/now/finish": page_now.finish,
        "/now/try": page_now.try_now,
        "/household/act": page_household.act_on_all,
        "/household/code": page_household.show_code,
        "/household/join": page_household.join,
        "/household/leave": page_household.leave,
        "/history/forget-habits": page_history.forget_habits,
        "/units/act": page_units.act_on_unit,
        "/projects/new-work": page_projects.set_new_work,
        "/projects/data": page_projects.set_data,
        "/projects/share": page_projects.set_share,
        "/projects/link": page_projects.link,
        "/projects/detach": page_projects.detach,
        "/preferences/set": page_preferences.set_preference,
        "/preferences/reset": page_preferences.reset,
        "/preferences/preset": page_preferences.take_preset,
        "/preferences/autostart": page_preferences.set_autostart,
        "/rules/signal": page_rules.set_signal,
        "/rules/forget": page_rules.forget_signal,
        "/rules/read": page_rules.read_signal,
        "/rules/row": page_rules.set_row,
        "/rules/remove": page_rules.remove_row,
        "/rules/match": page_rules.set_match,
        "/rules/hook": page_rules.create_hook,
        "/rules/revoke": page_rules.revoke_hook,
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


async def show_events(visit: Visit) -> Response:
    """Return the stream of one page."""
    return StreamingResponse(_events(visit), media_type="text/event-stream")


async def _events(visit: Visit) -> AsyncIterator[bytes]:
    view = visit.query("view")
    shown: dict[str, str] = {}
    async for status in visit.reader.changes():
        parts = _EVERYWHERE | _VIEWS.get(view, {})
        try:
            values = _VALUES[view](visit, status) if view in _VALUES else {"status": status}
        except PlebError:  # a project has just gone: only the common parts
            values, parts = {"status": status}, _EVERYWHERE
        for name, template in parts.items():
            html = visit.html(template, **values)
            if shown.get(name) != html:
                shown[name] = html
                data = msgspec.json.encode({"id": name, "html": html})
                yield b"event: part\ndata: " + data + b"\n\n"


async def _favicon(_: Request) -> Response:
    """Browsers ask for it even if a page names another icon."""
    return with_headers(Response(status_code=204))


def _opening(context: PageContext) -> Callable[[Request], Awaitable[Response]]:
    """Exchange a code for a cookie, then redirect.

    To the welcome of the project of `link`, to the preferences for `part`, or to the now page.
    """

    async def endpoint(request: Request) -> Response:
        logins = context.logins
        known = request.cookies.get(logins.cookie_name, "")
        if not is_from_here(request):
            return refused_page(context, request)
        link = request.query_params.get("link", "")
        if link:
            address = f"/welcome?link={quote(link, safe='')}"
        else:
            wants_preferences = request.query_params.get("part") == "preferences"
            address = "/preferences" if wants_preferences else "/"
        answer = RedirectResponse(address, 303)
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
