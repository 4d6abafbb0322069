"""What runs next to agentd's loop: for the unit, for the desktop session, for the tray."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readings import PresenceKind
from pleb_agent.desktop.display import display_is_there
from pleb_agent.program.command import module_command
from pleb_system.backoff import Backoff, Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pleb_agent.control.live_preferences import LivePreferences
    from pleb_agent.control.notifier import ChangeNotifier
    from pleb_agent.core.readings import Presence
    from pleb_agent.desktop.display import Address
    from pleb_agent.loop.agent_loop import AgentLoop
    from pleb_agent.sensors.keep_awake import KeepAwake
    from pleb_agent.sensors.presence import PresenceSensor

__all__ = ["SessionWatch", "TrayKeeper", "UnitWatch"]

_LOG: Final = logging.getLogger("pleb.agent")
_CHECKPOINT_SECONDS: Final = 4.5
"""logind waits five seconds before it lets the machine sleep."""
_CHECKS: Final = 3
_RESTART: Final = Backoff(first_seconds=2.0, longest_seconds=300.0)
_EXIT_SECONDS: Final = 2.0


@dataclass(frozen=True)
class UnitWatch:
    """Follows the loop through the notifier; does not poll."""

    loop: AgentLoop
    notifier: ChangeNotifier
    live: LivePreferences

    async def keep_awake(self, awake: KeepAwake) -> None:
        """Keep the machine awake while a unit is computed, if the user wants that."""
        try:
            async for computing in self.notifier.values(self._is_computing):
                await awake.follow(wanted=computing and self.live.current.keep_awake)
        finally:
            await awake.follow(wanted=False)

    async def watch_closely(self, presence: PresenceSensor) -> None:
        """Poll for input often while a unit is computed, where input has to be polled."""
        async for computing in self.notifier.values(self._is_computing):
            presence.watch_closely(computing)

    async def until_checkpoint(self) -> None:
        """Return when the current unit has its checkpoint, which the policy has asked for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHECKPOINT_SECONDS):
                async for unit in self.notifier.values(lambda: self.loop.status.unit or False):
                    if not unit:
                        return

    def _is_computing(self) -> bool:
        return self.loop.status.unit is not None and self.loop.governor.may_run


class SessionWatch:
    """Stops the agent with the desktop session that started it; the next one starts it again.

    An agent that outlived its session would watch a display that is gone: the PC would always count
    as in use, and the next session's agent could not start. Checks only while input cannot be read.
    `is_there`: a blocking check of the display.
    """

    def __init__(
        self,
        address: Address,
        presence: Callable[[], Presence],
        stop: Callable[[], None],
        *,
        seconds: float = 15.0,
        is_there: Callable[[Address], bool] = display_is_there,
    ) -> None:
        self._address = address
        self._presence = presence
        self._stop = stop
        self._seconds = seconds
        self._is_there = is_there

    async def run(self) -> None:
        """Watch until the display is gone three times in a row, then stop the agent."""
        missed = 0
        while missed < _CHECKS:
            await asyncio.sleep(self._seconds)
            unreadable = self._presence().kind is PresenceKind.UNREADABLE
            gone = unreadable and not await asyncio.to_thread(self._is_there, self._address)
            missed = missed + 1 if gone else 0
        _LOG.info("session", extra={"ended": True})
        self._stop()


class TrayKeeper:
    """Restarts the tray's process when it dies; it holds no state.

    It exits with 0 when it is not wanted: the user chose Quit, or there is no tray.
    """

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
