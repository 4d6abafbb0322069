"""Scripts, styles and drawings: a fixed list of files of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from pleb_agent.web.page_visit import Visit

__all__ = ["FILES", "STATIC", "show_file"]

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
"""Nothing else is served, whatever a path spells."""


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
