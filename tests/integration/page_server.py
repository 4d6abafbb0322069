"""The real `web_app` on a free port, around a `PageAgent`, in a thread of its own."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pleb_agent.web.guard import BrowserLogins
from pleb_agent.web.server import LocalServer, web_app
from tests.integration.page_agent import PageAgent

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from starlette.applications import Starlette

TOKEN = "the-token-of-agentd-json"


@dataclass
class PageServer:
    """A server that can be stopped and started again on its port."""

    agent: PageAgent = field(default_factory=PageAgent)
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    port: int = 0

    def __post_init__(self) -> None:
        self.logins = BrowserLogins(self.secret, time.time, secrets.token_bytes)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open_url(self) -> str:
        return f"{self.url}/open?code={self.logins.new_code()}"

    def start(self) -> PageServer:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        self._thread.start()
        assert started.wait(20)
        return self

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = LocalServer(self._app(), self.port)
        self.port = self._server.port
        running = asyncio.create_task(self._server.run())
        await asyncio.sleep(0.05)
        started.set()
        await running

    def _app(self) -> Starlette:
        household = cast("Any", self.agent.household)
        return web_app(self.agent.controller, TOKEN, self.logins, household)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def do(self, act: Callable[[], Any]) -> Any:
        """Run `act` in the server's thread, as the loop would change what it owns."""
        done: Future[Any] = asyncio.run_coroutine_threadsafe(_soon(act), self._loop)
        return done.result(10)


async def _soon(act: Callable[[], Any]) -> Any:
    return act()
