"""Keeps the tray's process alive: it holds no state, so it is simply started again."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.program.command import module_command
from pleb_system.backoff import Backoff, Restarts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.app.home import Home

__all__ = ["TrayKeeper"]

_LOG: Final = logging.getLogger("pleb.agent")
_RESTART: Final = Backoff(first_seconds=2.0, longest_seconds=300.0)
_END_SECONDS: Final = 2.0


class TrayKeeper:
    """The tray ends by itself with 0 when it is not wanted: the user chose Quit, or no tray."""

    def __init__(self, home: Home, command: Sequence[str] | None = None) -> None:
        self._command = command or [
            *module_command("pleb_agent.tray.main"),
            "--home",
            str(home.path),
        ]

    async def run(self) -> None:
        """Start it again when it dies, ever more slowly, until it ends well or we are cancelled."""
        restarts = Restarts(_RESTART)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            code = await self._one_life()
            if code == 0:
                return
            _LOG.info("tray", extra={"exit_code": code})
            await asyncio.sleep(restarts.delay_seconds(loop.time() - began))

    async def _one_life(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), _END_SECONDS)
                except TimeoutError:
                    process.kill()
                    await process.wait()
