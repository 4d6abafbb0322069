"""The one stream of server-sent events: parts of the page, rendered, when they have changed.

A page names its `view`; the stream begins with all parts of it, so that a page which lost its
connection (agentd restarted, the tab slept) is up to date again at once. Nothing is sent while
nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response, StreamingResponse

from pleb_agent.web.page_now import now_values
from pleb_agent.web.page_projects import project_values
from pleb_agent.web.page_welcome import first_unit_values
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pleb_agent.control.views import StatusView
    from pleb_agent.web.page_visit import Visit

__all__ = ["show_events"]

_EVERYWHERE: Final = {"pill": "pill.html", "said": "said.html"}
VIEWS: Final[dict[str, dict[str, str]]] = {
    "now": {
        "now-state": "now_state.html",
        "now-controls": "now_controls.html",
        "now-unit": "now_unit.html",
        "now-offers": "now_offers.html",
        "now-cards": "now_cards.html",
    },
    "first-unit": {"first-unit": "first_unit.html"},
    "projects": {"project-cards": "project_cards.html"},
}
"""Each view's parts: element id and template."""


async def show_events(visit: Visit) -> Response:
    """Return the stream of one page."""
    return StreamingResponse(_events(visit), media_type="text/event-stream")


async def _events(visit: Visit) -> AsyncIterator[bytes]:
    parts = _EVERYWHERE | VIEWS.get(visit.query("view"), {})
    shown: dict[str, str] = {}
    async for status in visit.reader.changes():
        for name, html in _rendered(visit, status, parts):
            if shown.get(name) != html:
                shown[name] = html
                yield _event({"id": name, "html": html})


def _rendered(visit: Visit, status: StatusView, parts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each part's HTML; if a view fails (a project has just gone), only the common parts."""
    try:
        values = view_values(visit, status)
    except PlebError:
        values, parts = {"status": status}, _EVERYWHERE
    for name, template in parts.items():
        yield name, visit.html(template, **values)


def view_values(visit: Visit, status: StatusView) -> dict[str, Any]:
    """Return what the parts of the visit's view need."""
    match visit.query("view"):
        case "now":
            return now_values(visit.reader, status)
        case "first-unit":
            return first_unit_values(visit.reader, status)
        case "projects":
            return project_values(visit.reader, status)
        case _:
            return {"status": status}


def _event(data: dict[str, str]) -> bytes:
    return b"event: part\ndata: " + msgspec.json.encode(data) + b"\n\n"
