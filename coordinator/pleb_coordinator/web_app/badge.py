"""`/projects/P/badge.svg`: where a project stands, as a picture for other people's pages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from pleb_coordinator.api.status_routes import check_project
from pleb_coordinator.web_app.words import count, number

if TYPE_CHECKING:
    from starlette.requests import Request

    from pleb_coordinator.api.context import Api
    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["badge", "badge_svg"]

_LABEL: Final = "trained by volunteers"
_COLORS: Final = {"active": "#0b7a4b", "finished": "#4f46e5"}
_OTHERWISE: Final = "#5b6072"
_CHARACTER: Final = 6.4
"""Width of a character in a font of 11 pixels, on the average; the text is set to it."""
_MARGIN: Final = 8.0
_CACHED_SECONDS: Final = 300


async def badge(api: Api, request: Request) -> Response:
    """Send the picture. Raises `Refusal` unknown_project, also for one that is private."""
    check_project(api, request)
    status = await api.statuses.of(request.path_params["project"])
    shared = "public" if status.access == "public" else "private"
    headers = {
        "Cache-Control": f"{shared}, max-age={_CACHED_SECONDS}",
        "Content-Security-Policy": "default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(badge_svg(status), media_type="image/svg+xml", headers=headers)


def badge_svg(status: ProjectStatus) -> str:
    """Return the picture: what is measured now, by how many PCs, in the colour of its state."""
    metric = status.target.metric if status.target else "loss"
    hosts = status.counts.hosts
    parts = [f"version {status.version}"]
    if metric in status.metrics:
        parts.append(f"{metric} {number(status.metrics[metric])}")
    parts.append(f"{count(hosts)} {'PC' if hosts == 1 else 'PCs'}")
    said = " · ".join(parts)
    left, right = (len(text) * _CHARACTER + 2 * _MARGIN for text in (_LABEL, said))
    texts = "".join(
        f'<text x="{start + _MARGIN:.0f}" y="14" textLength="{width - 2 * _MARGIN:.0f}">'
        f"{escape(text)}</text>"
        for text, start, width in ((_LABEL, 0.0, left), (said, left, right))
    )
    color = _COLORS.get(status.state, _OTHERWISE)
    width = left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="20" role="img" '
        f'aria-label="{escape(f"{_LABEL}: {said}")}">'
        f'<clipPath id="r"><rect width="{width:.0f}" height="20" rx="4"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left:.0f}" height="20" fill="#2b2e3b"/>'
        f'<rect x="{left:.0f}" width="{right:.0f}" height="20" fill="{color}"/></g>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{texts}</g>'
        "</svg>"
    )
