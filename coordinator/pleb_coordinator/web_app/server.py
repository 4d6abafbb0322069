"""Runs the application on a socket that the supervisor opened, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
import sys
from typing import TYPE_CHECKING, Final

import uvicorn
from typing_extensions import override

from pleb_coordinator.web_app.connections import IDLE_SECONDS, BoundedConnection, Connections
from pleb_system.ready import ReadySignal

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from pleb_coordinator.web_app.app import WebApp

__all__ = ["Server", "allow_files", "run_server"]

_GRACE_SECONDS: Final = 3
_BACKLOG: Final = 2048
_HANDSHAKE_SECONDS: Final = 10.0
_OTHER_FILES: Final = 256
"""What the process may open beside its connections: stores, blobs, logs."""


class Server(uvicorn.Server):
    """Bounds connections; ends long-polls and event streams before it waits for open requests."""

    def __init__(
        self,
        config: uvicorn.Config,
        web: WebApp,
        connections: Connections,
        ready: ReadySignal | None = None,
    ) -> None:
        super().__init__(config)
        self._web = web
        self._connections = connections
        self._ready = ready or ReadySignal(None)

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen as uvicorn does, but with our connections, and a time for TLS handshakes."""
        loop = asyncio.get_running_loop()
        tls = self.config.ssl
        self.servers = [
            await loop.create_server(
                lambda: BoundedConnection(self._connections, self.config, self.server_state),
                sock=one,
                ssl=tls,
                backlog=_BACKLOG,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if tls else None,
            )
            for one in sockets or []
        ]
        self.started = True
        self._ready.say()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._web.api.closing.set()
        self._web.api.changes.wake_all()
        await super().shutdown(sockets)


def run_server(
    web: WebApp,
    listening: socket.socket,
    certificate: tuple[Path, Path] | None,
    ready: ReadySignal,
) -> None:
    """Serve until SIGTERM or SIGINT. `certificate` is the files of certificate and key."""
    uvloop = importlib.util.find_spec("uvloop")  # there is none for Windows
    config = uvicorn.Config(
        web.app,
        loop="uvloop" if uvloop else "asyncio",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # `build_app` believes those of the configured proxies alone
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=str(certificate[0]) if certificate else None,
        ssl_keyfile=str(certificate[1]) if certificate else None,
    )
    # Invalid requests are counted, not logged: whoever sends them would fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    most = min(web.connections, allow_files(web.connections + _OTHER_FILES) - _OTHER_FILES)
    server = Server(config, web, Connections(most, web.connections_per_address), ready)
    gc.collect()
    gc.freeze()  # objects of the start-up stay: a full collection would scan them for 30 ms
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listening]))


def allow_files(wanted: int) -> int:
    """Raise the soft limit of open files, 1,024 on most systems; return how many may be open."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
