"""What depends on a unit being computed: staying awake, watching input, a last checkpoint."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pleb_agent.control.live_preferences import LivePreferences
    from pleb_agent.control.notifier import ChangeNotifier
    from pleb_agent.loop.agent_loop import AgentLoop
    from pleb_agent.sensors.keep_awake import KeepAwake
    from pleb_agent.sensors.presence import PresenceSensor

__all__ = ["UnitWatch"]

_CHECKPOINT_SECONDS: Final = 4.5
"""logind waits five seconds before it lets the machine sleep."""


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
