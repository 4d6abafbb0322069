"""The coordinator's HTTP server on a real socket of loopback, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.home.config import CoordinatorConfig
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.web_app.app import build_app
from pleb_coordinator.web_app.connections import Connections
from pleb_coordinator.web_app.server import Server
from tests.integration.steps_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_SECONDS = 20.0


class Served:
    """A running server; `world` is behind it."""

    def __init__(self, world: World, port: int, connections: Connections) -> None:
        self.world = world
        self.port = port
        self.connections = connections

    def connect(self, sent: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        """Open a connection from an address of loopback."""
        one = socket.create_connection(
            ("127.0.0.1", self.port), WAIT_SECONDS, source_address=(source, 0)
        )
        one.sendall(sent)
        return one

    def ask(self, sent: bytes, source: str = "127.0.0.1") -> bytes:
        """Send bytes on a connection of their own; return everything that comes back."""
        with self.connect(source=source) as one:
            return self.exchange(one, sent)

    def exchange(self, one: socket.socket, sent: bytes) -> bytes:
        """Send bytes, and read until the server closes."""
        with suppress(ConnectionResetError, BrokenPipeError):  # refused before all was sent
            one.sendall(sent)
        return read_all(one)

    def is_healthy(self) -> bool:
        """Whether somebody else is served."""
        asked = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        return self.ask(asked).startswith(b"HTTP/1.1 200 ")


def read_all(one: socket.socket) -> bytes:
    """Return what comes until the connection ends, however it ends."""
    got = b""
    try:
        while part := one.recv(65536):
            got += part
    except ConnectionResetError:
        pass
    return got


@contextmanager
def served(
    tmp_path: Path,
    config: CoordinatorConfig | None = None,
    certificate: Path | None = None,
    *,
    holdout: bool = False,
) -> Iterator[Served]:
    """Run the server until the context ends. `certificate`: a file of key and certificate."""
    config = config or CoordinatorConfig()
    world = World(tmp_path, holdout=holdout)
    home = Home(tmp_path)
    for folder in home.folders:
        folder.mkdir(exist_ok=True)
    make_secret_file(home.secret_file, world.deps.secret)
    make_secret_file(home.online_key_file, world.online.to_bytes())
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = listening.getsockname()[1]
    connections = Connections(config.connections, config.connections_per_address)
    servers: list[Server] = []

    def run() -> None:
        web = build_app(home, config, LinkBase(f"http://127.0.0.1:{port}"), world.clock)
        options = uvicorn.Config(
            web.app, http="httptools", ws="none", lifespan="off", log_config=None,
            access_log=False, timeout_keep_alive=75, timeout_graceful_shutdown=1,
            ssl_certfile=certificate, proxy_headers=False,
        )  # fmt: skip
        servers.append(Server(options, web, connections))
        try:
            with asyncio.Runner(loop_factory=options.get_loop_factory()) as runner:
                runner.run(servers[0].serve(sockets=[listening]))
        finally:
            web.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield Served(world, port, connections)
    finally:
        if servers:
            servers[0].should_exit = True
        thread.join(WAIT_SECONDS)
        world.store.close()
    assert not thread.is_alive()
