"""The real probe below a real `PresenceSensor`, without any session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pleb_agent.core.readings import NO_SESSION, Presence
from pleb_agent.sensors.presence import PresenceSensor

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_000_000.0


def test_the_real_probe_reports_that_there_is_no_session(tmp_path: Path) -> None:
    news: list[Presence] = []
    environment = {
        "XDG_RUNTIME_DIR": str(tmp_path),
        "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/none",
    }

    async def story() -> None:
        reported = asyncio.Event()

        def note() -> None:
            news.append(sensor.presence)
            reported.set()

        sensor = PresenceSensor(note, clock=lambda: NOW, environment=environment)
        task = asyncio.create_task(sensor.run())
        async with asyncio.timeout(60):
            await reported.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert news == [NO_SESSION]
