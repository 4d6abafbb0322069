"""Everything that agentd reads of the machine and its user, put together for the policy."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pleb_agent.core.devices import CPU
from pleb_agent.core.override import OverrideKind
from pleb_agent.journal.activity_log import local_day
from pleb_agent.program.clock import local_time, system_clock
from pleb_agent.sensors.machine import free_disk_bytes
from pleb_agent.sensors.presence import PresenceSensor
from pleb_agent.sensors.scheduler import SensorScheduler
from pleb_agent.sensors.system_sensors import system_sensors
from pleb_agent.signals.history import SignalHistory
from pleb_agent.signals.watch import SignalWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pleb_agent.control.overrides import Overrides
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Readings
    from pleb_agent.core.signals import SignalRules
    from pleb_agent.journal.journal import Journal
    from pleb_agent.sensors.devices import Workers

__all__ = ["Chosen", "ReadingsSource"]


@dataclass(frozen=True)
class Chosen:
    """What the user has set, asked again whenever it matters."""

    preferences: Callable[[], Preferences]
    overrides: Overrides
    rules: Callable[[], SignalRules]


class ReadingsSource:
    """`read` is cheap.

    Args:
        home: whose disk space counts.
        chosen: what the user has set.
        workers: the cards, and the worker's process on each device, whose load is our own.
        headless: input is not watched.
        on_change: called when a reading that matters may have changed.
        before_sleep: awaited before the machine sleeps, as long as the system allows.
    """

    def __init__(
        self,
        home: Path,
        journal: Journal,
        chosen: Chosen,
        workers: Workers,
        *,
        headless: bool,
        on_change: Callable[[], None],
        before_sleep: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._home = home
        self._journal = journal
        self._overrides = overrides = chosen.overrides
        preferences = chosen.preferences
        self.presence = None if headless else PresenceSensor(on_change, clock=system_clock)
        self._scheduler = SensorScheduler(
            system_sensors(
                lambda: workers.pid_of(CPU),
                preferences,
                cards=workers.cards,
                card_pid=workers.pid_of,
            ),
            preferences,
            presence=self.presence,
            is_needed=lambda: not overrides.current.is_active(OverrideKind.PAUSE, system_clock()),
        )
        self._rules = chosen.rules
        self.signals = SignalWatch(
            chosen.rules,
            SignalHistory(home / "signal-history.json"),
            on_change,
            proxy=lambda: preferences().proxy,
            clock=system_clock,
            local_time=local_time,
        )
        self._scheduler.on_change = on_change
        self._scheduler.on_suspend = before_sleep

    def read(self) -> Readings:
        """Return this moment."""
        now = system_clock()
        today = self._journal.day(local_day(now))
        return replace(
            self._scheduler.latest,
            now=now,
            local_time=local_time(now),
            override=self._overrides.current,
            device_pauses=self._overrides.device_pauses,
            hook=self._overrides.hook,
            rules=self._rules(),
            signals=self.signals.latest,
            free_disk_bytes=free_disk_bytes(self._home),
            downloaded_today_bytes=int(today.get("bytes_received", 0)),
            uploaded_today_bytes=int(today.get("bytes_sent", 0)),
        )

    async def run(self) -> None:
        """Watch until cancelled; what a sensor raises is a defect and ends the process."""
        tasks = [
            asyncio.create_task(self._scheduler.run()),
            asyncio.create_task(self.signals.run()),
        ]
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
        """Read everything again: an override ended or preferences changed."""
        self._scheduler.look_now()
