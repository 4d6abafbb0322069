"""The loopback server's routes, put together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from pleb_agent.web.api import api_routes
from pleb_agent.web.page_visit import PageParts
from pleb_agent.web.pages import page_routes

if TYPE_CHECKING:
    from pleb_agent.web.control import Control
    from pleb_agent.web.sessions import Sessions

__all__ = ["web_app"]


def web_app(control: Control, token: str, sessions: Sessions | None = None) -> Starlette:
    """Return the app.

    Args:
        control: agentd.
        token: that of `HOME/agentd.json`.
        sessions: of the page; None: there is no page.
    """
    routes = api_routes(control, token)
    if sessions is not None:
        routes += page_routes(PageParts(control, sessions, sessions.clock, time.localtime))
    return Starlette(routes=routes)
