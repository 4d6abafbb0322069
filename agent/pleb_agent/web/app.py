"""The loopback server's routes, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from pleb_agent.web.api import api_routes

if TYPE_CHECKING:
    from pleb_agent.web.control import Control

__all__ = ["web_app"]


def web_app(control: Control, token: str) -> Starlette:
    """Return the app; `token` is that of `HOME/agentd.json`."""
    return Starlette(routes=api_routes(control, token))
