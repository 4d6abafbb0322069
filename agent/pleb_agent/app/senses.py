"""All that agentd reads of the machine and its user, put together for the policy."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pleb_agent.app.clock import local_time, system_clock
from pleb_agent.core.wish import WishKind
from pleb_agent.journal.activity_log import local_day
from pleb_agent.sensors.machine import free_disk_bytes
from pleb_agent.sensors.presence import PresenceSensor
from pleb_agent.sensors.scheduler import SensorScheduler
from pleb_agent.sensors.system_sensors import system_sensors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pleb_agent.app.home import Home
    from pleb_agent.app.wishes import Wishes
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Readings
    from pleb_agent.journal.journal import Journal

__all__ = ["Senses"]


class Senses:
    """`read` is cheap; `on_change` is called when something that matters may have changed.

    `worker_pid`: the worker's process, whose load is our own. `headless`: nobody's input is
    watched.
    """

    def __init__(
        self,
        home: Home,
        journal: Journal,
        wishes: Wishes,
        preferences: Callable[[], Preferences],
        worker_pid: Callable[[], int | None],
        *,
        headless: bool,
    ) -> None:
        self._home = home
        self._journal = journal
        self._wishes = wishes
        self.on_change: Callable[[], None] = _nothing
        self.presence = None if headless else PresenceSensor(self._tell, clock=system_clock)
        self._scheduler = SensorScheduler(
            system_sensors(worker_pid, preferences),
            preferences,
            presence=self.presence,
            is_needed=lambda: not wishes.current.holds(WishKind.PAUSE, system_clock()),
        )
        self._scheduler.on_change = self._tell
        self._scheduler.on_suspend = self._prepare
        self.before_sleep: Callable[[], Awaitable[None]] = _nothing_to_do
        """Awaited before the machine sleeps, as long as the system lets us."""

    def read(self) -> Readings:
        """Return this moment."""
        now = system_clock()
        today = self._journal.day(local_day(now))
        return replace(
            self._scheduler.latest,
            now=now,
            local_time=local_time(now),
            wish=self._wishes.current,
            free_disk_bytes=free_disk_bytes(self._home.path),
            downloaded_today_bytes=int(today.get("bytes_received", 0)),
            uploaded_today_bytes=int(today.get("bytes_sent", 0)),
        )

    async def run(self) -> None:
        """Watch until cancelled; what a sensor raises is a defect and ends the process."""
        tasks = [asyncio.create_task(self._scheduler.run())]
        if self.presence is not None:
            tasks.append(asyncio.create_task(self.presence.run()))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)

    def look_now(self) -> None:
        """Read everything anew: a wish ended or preferences changed."""
        self._scheduler.look_now()

    def _tell(self) -> None:
        self.on_change()

    async def _prepare(self) -> None:
        await self.before_sleep()


def _nothing() -> None:
    """Nobody listens."""


async def _nothing_to_do() -> None:
    """Nobody has anything to put away."""
