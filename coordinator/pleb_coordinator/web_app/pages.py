"""The pages, rendered on the server; `static/project.js` keeps them up to date."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from typing_extensions import override

from pleb_coordinator.api.access import cookie_of, is_invited
from pleb_coordinator.api.downloads import download
from pleb_coordinator.api.family import family_status
from pleb_coordinator.api.models import MOST_MODEL_BYTES, model_file
from pleb_coordinator.api.publishing import software
from pleb_coordinator.api.requests import read_body
from pleb_coordinator.api.routes import route
from pleb_coordinator.api.showcase import asked_version, showcase_status
from pleb_coordinator.api.status_routes import check_project
from pleb_coordinator.core.access import is_private
from pleb_coordinator.core.packages import best_first, visitor_of
from pleb_coordinator.web_app import words
from pleb_coordinator.web_app.badge import badge
from pleb_coordinator.web_app.curves import HEIGHT, WIDTH, curves_of
from pleb_coordinator.web_app.showcase import page_of
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.reasons import reason_sentence
from pleb_shared.protocol.shown import shown
from pleb_shared.protocol.status import NOT_COMPARABLE, OWN_DATA, shown_privacy, shown_received

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route
    from starlette.types import Scope

    from pleb_coordinator.api.context import Api

__all__ = ["HEADERS", "STATIC", "page_routes", "render", "static_files"]

STATIC: Final = Path(__file__).parent / "static"
CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index, whose builds for the processor lack the gigabytes that cards need."""
_SHOWN: Final = re.compile(r"[A-Za-z0-9._-]{16,200}")
_PROJECT: Final = re.compile(r"[a-z0-9-]{1,40}")
_TEMPLATES: Final = Path(__file__).parent / "templates"
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'none'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Nothing from elsewhere and nothing inline: a host's display name cannot become a script."""


def page_routes(api: Api) -> list[Route]:
    """Return the routes of the pages."""
    return [
        route(api, "GET", "/", index_page),
        route(api, "GET", "/projects/{project}", project_page),
        route(api, "GET", "/projects/{project}/live", live_fragment),
        route(api, "GET", "/projects/{project}/shown", showcase_fragment),
        route(api, "GET", "/projects/{project}/badge.svg", badge),
        route(api, "GET", "/projects/{project}/model.safetensors", model_file),
        route(api, "GET", "/families/{family}", family_page),
        route(api, "GET", "/families/{family}/live", family_fragment),
        route(api, "GET", "/join/{project}", join_page),
        route(api, "POST", "/join/{project}", show_invite),
        route(api, "GET", "/downloads/{name}", download),
        route(api, "GET", "/favicon.ico", favicon),
    ]


def static_files() -> Mount:
    """Return the route of scripts and styles."""
    return Mount("/static", _StaticFiles(directory=STATIC), name="static")


class _StaticFiles(StaticFiles):
    """Serves files with an hour's caching; browsers must not guess their types."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=3600"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


async def index_page(api: Api, _: Request) -> Response:
    """Show all projects; the members of a family as one."""
    found = await api.statuses.all()
    names = dict.fromkeys(p.family.name for p in found if p.family)
    families = [
        family_status(name, [p for p in found if p.family and p.family.name == name])
        for name in names
    ]
    alone = [p for p in found if not p.family]
    return _page(api, "index.html", projects=alone, families=families, now=api.deps.clock())


async def project_page(api: Api, request: Request) -> Response:
    """Show one project, live; with `?from=V` its showcase beside that of version V."""
    return await _with_showcase(api, request, "project.html")


async def showcase_fragment(api: Api, request: Request) -> Response:
    """Return the showcase of the project's page."""
    return await _with_showcase(api, request, "showcase.html")


async def live_fragment(api: Api, request: Request) -> Response:
    """Return the lists of the project's page, with which htmx replaces older ones."""
    return await _of_project(api, request, "live.html")


async def family_page(api: Api, request: Request) -> Response:
    """Show the members of a family side by side."""
    return await _of_family(api, request, "family.html")


async def family_fragment(api: Api, request: Request) -> Response:
    """Return the curves and the table of the family's page."""
    return await _of_family(api, request, "family_live.html")


async def join_page(api: Api, request: Request) -> Response:
    """Show what a project is and how to take part, first with what suits the visitor's PC."""
    headers = request.headers
    visitor = visitor_of(headers.get("user-agent", ""), headers.get("sec-ch-ua-platform", ""))
    fitting, others = best_first(api.packages.all(), visitor)
    response = await _of_project(
        api,
        request,
        "join.html",
        invited=True,
        visitor=visitor,
        fitting=fitting,
        others=others,
        releases=api.releases,
        cpu_index=CPU_INDEX,
        invite=_invite(api, request),
    )
    response.headers["Vary"] = "User-Agent, Sec-CH-UA-Platform"
    return response


async def show_invite(api: Api, request: Request) -> Response:
    """Let a browser show what it was given with each request from now on.

    A script of ours sends what stood after the # of a link. Nothing is looked up here, so the
    answer is the same for every project, whether it exists or not.
    """
    body = await read_body(request, LIMITS.reader_characters, api.counters)
    text, name = body.decode("ascii", "replace"), request.path_params["project"]
    if not (_SHOWN.fullmatch(text) and _PROJECT.fullmatch(name)):
        message = "This is not an invite: copy the whole link, as it was sent to you."
        raise Refusal(RefusalCode.MALFORMED, message)
    answer = Response(status_code=204, headers={"Cache-Control": "no-store"})
    answer.set_cookie(
        cookie_of(name),
        text,
        path=f"{api.links.base_path}/",
        secure=api.links.url.startswith("https://"),
        httponly=True,
        samesite="strict",
    )
    return answer


async def favicon(api: Api, _: Request) -> Response:
    """Redirect to the SVG icon."""
    return RedirectResponse(f"{api.links.base_path}/static/icon.svg", 308)


def _invite(api: Api, request: Request) -> str:
    """Return the invite to a private project that the browser shows; empty: none."""
    name = request.path_params["project"]
    text = request.cookies.get(cookie_of(name), "")
    with api.store.read() as tx:
        try:
            project = tx.projects.find(name)
        except Refusal:
            return ""
        if not is_private(project) or not is_invited(tx, project, text, api.deps.clock()):
            return ""
    return text


async def _of_project(
    api: Api, request: Request, template: str, *, invited: bool = False, **values: Any
) -> Response:
    try:
        check_project(api, request, invited=invited)
        status = await api.statuses.of(request.path_params["project"])
    except Refusal as refusal:
        if refusal.code != RefusalCode.UNKNOWN_PROJECT:
            raise
        return _page(api, "missing.html", status_code=404, name=request.path_params["project"])
    return _page(
        api,
        template,
        p=status,
        progress=words.progress_of(status),
        recalls=words.class_values(status, "recall"),
        confusion=words.class_values(status, "confusion"),
        url=api.links.url,
        most_model_bytes=MOST_MODEL_BYTES,
        now=api.deps.clock(),
        **values,
    )


async def _with_showcase(api: Api, request: Request, template: str) -> Response:
    try:
        status = await showcase_status(api, request)
    except Refusal as refusal:
        if refusal.code != RefusalCode.UNKNOWN_PROJECT:
            raise
        return await _of_project(api, request, template)  # which says that there is none
    return await _of_project(
        api,
        request,
        template,
        shows=status.card is not None,
        s=page_of(status),
        from_version=asked_version(request),
    )


async def _of_family(api: Api, request: Request, template: str) -> Response:
    name = request.path_params["family"]
    try:
        family = await api.statuses.family(name)
    except Refusal as refusal:
        if refusal.code != RefusalCode.UNKNOWN_PROJECT:
            raise
        return _page(api, "missing.html", status_code=404, name=name)
    changed = sorted({key for member in family.members for key in member.settings})
    curves = curves_of(family)
    size = {"width": WIDTH, "height": HEIGHT}
    return _page(api, template, f=family, curves=curves, changed=changed, **size)


def _page(api: Api, template: str, *, status_code: int = 200, **values: object) -> Response:
    return HTMLResponse(render(api, template, **values), status_code, headers=HEADERS)


def render(api: Api, template: str, **values: object) -> str:
    """Return a page's HTML."""
    return _ENVIRONMENT.get_template(template).render(base=api.links.base_path, **values)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": words.ago,
        "count": words.count,
        "moment": words.moment,
        "number": words.number,
        "operations": words.operations,
        "percent": words.percent,
        "size": words.size,
        "reason": lambda reason: "" if reason is None else reason_sentence(reason),
        "short_digest": words.short_digest,
    }
    environment.globals["software"] = software()
    environment.globals["not_comparable"] = NOT_COMPARABLE
    environment.globals["own_data"] = OWN_DATA
    environment.globals["shown_privacy"] = shown_privacy
    environment.globals["shown_received"] = shown_received
    return environment


_ENVIRONMENT: Final = _environment()
