"""Runs the application on a socket that the supervisor opened, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
from typing import TYPE_CHECKING, TypeVar

import uvicorn
from typing_extensions import override

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from pleb_coordinator.web_app.app import WebApp

__all__ = ["run_server"]

Fast = TypeVar("Fast", bound=str)
Plain = TypeVar("Plain", bound=str)

_GRACE_SECONDS = 3
_BACKLOG = 2048


class _Server(uvicorn.Server):
    """Ends long-polls and event streams before it waits for open requests."""

    def __init__(self, config: uvicorn.Config, web: WebApp) -> None:
        super().__init__(config)
        self._web = web

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._web.api.closing.set()
        self._web.api.changes.wake_all()
        await super().shutdown(sockets)


def run_server(
    web: WebApp, listening: socket.socket, certificate: tuple[Path, Path] | None
) -> None:
    """Serve until SIGTERM or SIGINT. `certificate` is the files of certificate and key."""
    config = uvicorn.Config(
        web.app,
        loop=_fastest("uvloop", "asyncio"),
        http=_fastest("httptools", "h11"),
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=str(certificate[0]) if certificate else None,
        ssl_keyfile=str(certificate[1]) if certificate else None,
    )
    server = _Server(config, web)
    gc.collect()
    gc.freeze()  # objects of the start-up stay: a full collection would scan them for 30 ms
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listening]))


def _fastest(fast: Fast, plain: Plain) -> Fast | Plain:
    """Return the fast implementation if it is installed."""
    return fast if importlib.util.find_spec(fast) else plain
