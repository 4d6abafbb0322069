"""Restarts the tray's process when it dies; it holds no state."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.program.command import module_command
from pleb_system.backoff import Backoff, Restarts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["TrayKeeper"]

_LOG: Final = logging.getLogger("pleb.agent")
_RESTART: Final = Backoff(first_seconds=2.0, longest_seconds=300.0)
_EXIT_SECONDS: Final = 2.0


class TrayKeeper:
    """The tray exits with 0 when it is not wanted: the user chose Quit, or there is no tray."""

    def __init__(self, home: Path, command: Sequence[str] | None = None) -> None:
        self._command = command or [
            *module_command("pleb_agent.tray.main"),
            "--home",
            str(home),
        ]

    async def run(self) -> None:
        """Restart it when it dies, with growing delays, until it exits with 0."""
        restarts = Restarts(_RESTART)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            code = await self._run_once()
            if code == 0:
                return
            _LOG.info("tray", extra={"exit_code": code})
            await asyncio.sleep(restarts.delay_seconds(loop.time() - began))

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), _EXIT_SECONDS)
                except TimeoutError:
                    process.kill()
                    await process.wait()
