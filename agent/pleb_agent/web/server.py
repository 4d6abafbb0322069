"""uvicorn without its tick: a server that sleeps when nobody asks.

uvicorn wakes ten times a second to renew a date header and to look for a signal; an agent that
idles on a volunteer's PC needs neither.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from typing_extensions import override

from pleb_agent.web.connections import BoundedConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

__all__ = ["LocalServer"]


class _TicklessServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    @override
    async def main_loop(self) -> None:
        await self.stopping.wait()

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # agentd has its own


class LocalServer:
    """Serves an app on the loopback interface: on `port` if that is free, else on any."""

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without, an answer
        # of two writes waits 40 ms for the other side's delayed acknowledgement.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if sys.platform != "win32":  # there it would let another program share the port
            # A page that is open reconnects to the same port after a restart of agentd.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError:
            self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            http=BoundedConnection,
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        # Strangers' nonsense is no news: whoever sends it without end would fill a disk with it.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = _TicklessServer(config)

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`."""
        self._server.stopping.set()


def _bound(port: int) -> socket.socket:
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without, an answer
    # of two writes waits 40 ms for the other side's delayed acknowledgement.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":  # there it would let two processes share a port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.bind(("127.0.0.1", 0))
    return bound
