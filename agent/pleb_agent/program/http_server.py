"""An HTTP server: uvicorn without its tick, with bounded connections.

uvicorn wakes ten times a second to renew a date header and to look for a signal; an agent that
idles on a volunteer's PC needs neither.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvicorn
from starlette.requests import ClientDisconnect
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

__all__ = ["MOST_CONNECTIONS", "BoundedConnection", "BrokenOffError", "HttpServer"]

MOST_CONNECTIONS: Final = 128
"""Half of what a process may open where that is least (macOS: 256)."""
REQUEST_SECONDS: Final = 10.0
"""For the head of a request, from the first byte or the last answer on."""


class BoundedConnection(H11Protocol):
    """One connection, bounded: in number, and in the time for a request.

    Every process of this machine can connect, and so can every page in a browser. Without bounds
    they could use up the files that agentd may open, and it could not even answer its own user.
    An idle connection is dropped for a newer one where there are too many.
    """

    most_connections = MOST_CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None

    @property
    def is_asking(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's type says never None
        return cycle is not None and not cycle.response_complete

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self.most_connections:
            idle = {
                one: one._deadline.when()  # noqa: SLF001
                for one in self.connections
                if isinstance(one, BoundedConnection) and one._deadline is not None  # noqa: SLF001
            }
            min(idle, key=idle.__getitem__, default=self).drop()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @override
    def handle_events(self) -> None:
        super().handle_events()
        if self.is_asking:
            self._stop_waiting()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.is_asking:
            self._wait()

    def drop(self) -> None:
        """Close at once, dropping what was not sent yet."""
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.drop)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class BrokenOffError(Exception):
    """The rest of an answer that has begun cannot be sent: its connection is closed."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whether uvicorn says something that is not the other side's doing, or meant to be so.

    Otherwise a program that breaks off its requests would fill the disk with tracebacks.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, BrokenOffError | ClientDisconnect)


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
        yield  # agentd handles signals itself


class HttpServer:
    """Serves an app at `host`: on `port` if that is free, else on any. `::` is IPv4, too."""

    def __init__(
        self,
        app: ASGIApp,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        connection: type[BoundedConnection] = BoundedConnection,
    ) -> None:
        # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without, an answer
        # of two writes waits 40 ms for the other side's delayed acknowledgement.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if sys.platform != "win32":  # there it would let another program share the port
            # A page that is open reconnects to the same port after a restart of agentd.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            http=connection,
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        # Invalid requests are not logged: a program that keeps sending them would fill the disk.
        log = logging.getLogger("uvicorn.error")
        log.setLevel(logging.ERROR)
        log.addFilter(_is_news)
        self._server = _TicklessServer(config)

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Make `run` return."""
        self._server.stopping.set()
