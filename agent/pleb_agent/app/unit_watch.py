"""What follows from a unit being computed: staying awake, watching closely, putting away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pleb_agent.app.bell import Bell
    from pleb_agent.app.live_preferences import LivePreferences
    from pleb_agent.loop.agent_loop import AgentLoop
    from pleb_agent.sensors.keep_awake import KeepAwake
    from pleb_agent.sensors.presence import PresenceSensor

__all__ = ["UnitWatch"]

_PUT_AWAY_SECONDS: Final = 4.5
"""logind waits for five before it lets the machine sleep."""


@dataclass(frozen=True)
class UnitWatch:
    """Hears of units by the bell; does not tick."""

    loop: AgentLoop
    bell: Bell
    live: LivePreferences

    async def keep_awake(self, awake: KeepAwake) -> None:
        """Keep the machine awake while a unit is computed, if the user wants that; for ever."""
        try:
            async for computing in self.bell.values(self._is_computing):
                await awake.follow(wanted=computing and self.live.current.keep_awake)
        finally:
            await awake.follow(wanted=False)

    async def watch_closely(self, presence: PresenceSensor) -> None:
        """Look for input often while a unit is computed, where input has to be looked for."""
        async for computing in self.bell.values(self._is_computing):
            presence.watch_closely(computing)

    async def until_put_away(self) -> None:
        """Return when the unit in hand has its checkpoint; the policy has told the worker."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PUT_AWAY_SECONDS):
                async for unit in self.bell.values(lambda: self.loop.status.unit or False):
                    if not unit:
                        return

    def _is_computing(self) -> bool:
        return self.loop.status.unit is not None and self.loop.governor.may_run
