"""Stops the agent with the desktop session that started it, so that the next one starts it again.

An agent that outlived its session would watch a display that is gone: the PC would always count as
in use, and the next session's agent could not start.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readings import PresenceKind
from pleb_agent.desktop.display import display_is_there

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.core.readings import Presence
    from pleb_agent.desktop.display import Address

__all__ = ["SessionWatch"]

_LOG: Final = logging.getLogger("pleb.agent")
_CHECKS: Final = 3


class SessionWatch:
    """Checks only while input cannot be read. `is_there`: a blocking check of the display."""

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
            missed = 0 if await self._is_well() else missed + 1
        _LOG.info("session", extra={"ended": True})
        self._stop()

    async def _is_well(self) -> bool:
        if self._presence().kind is not PresenceKind.UNREADABLE:
            return True
        return await asyncio.to_thread(self._is_there, self._address)
