"""The page and the control API, on the loopback interface."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from pleb_agent.program.http_server import MOST_CONNECTIONS, HttpServer
from pleb_agent.web.api import api_routes
from pleb_agent.web.page_visit import PageContext
from pleb_agent.web.pages import page_routes

if TYPE_CHECKING:
    from pleb_agent.control.controller import Controller
    from pleb_agent.control.household_control import HouseholdControl
    from pleb_agent.web.guard import BrowserLogins

__all__ = ["MOST_CONNECTIONS", "LocalServer", "web_app"]

LocalServer = HttpServer


def web_app(
    controller: Controller,
    token: str,
    logins: BrowserLogins,
    household: HouseholdControl | None = None,
) -> Starlette:
    """Return the app: the control API and the page.

    `token`: that of `HOME/agentd.json`, for the API. `logins`: of the page.
    """
    context = PageContext(controller, logins, logins.clock, time.localtime, household)
    return Starlette(routes=api_routes(controller, token, logins, household) + page_routes(context))
