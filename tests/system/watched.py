"""A `PresenceSensor` at work in a thread of its own, as agentd's event loop would have it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pleb_agent.core.readings import Presence, PresenceKind
from pleb_agent.sensors.presence import PresenceSensor, ProbeTimeouts
from tests.system.desktop import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["QUIET_SECONDS", "Watched", "watched"]

QUIET_SECONDS = 5.0
"""After so long without input the next one is told at once."""


class Watched:
    """`news`: what `on_change` saw, each with the moment (seconds since 1970) of the call."""

    def __init__(self, sensor: PresenceSensor) -> None:
        self.sensor = sensor
        self.news: list[tuple[float, Presence]] = []

    def note(self) -> None:
        self.news.append((time.time(), self.sensor.presence))

    @property
    def presence(self) -> Presence:
        return self.sensor.presence

    @property
    def idle_seconds(self) -> float:
        return time.time() - self.presence.last_input_at

    def until_kind(self, kind: PresenceKind) -> Presence:
        until(lambda: self.presence.kind is kind, f"presence {kind}, now {self.presence}")
        return self.presence

    def until_quiet(self) -> None:
        """Wait until nobody has touched the session for long enough, and it is known."""
        self.until_kind(PresenceKind.READABLE)
        until(lambda: self.idle_seconds > QUIET_SECONDS + 1.5, "nobody touches the session")

    def until_input_since(self, moment: float, seconds: float = 5.0) -> float:
        """Return when the first input after this moment was told."""

        def look() -> float:
            told = (at for at, presence in self.news if presence.last_input_at > moment - 0.05)
            return next((at for at in told if at > moment), 0.0)

        return until(look, f"news of the input at {moment}: {self.news[-2:]}", seconds)


@contextmanager
def watched(
    environment: Mapping[str, str],
    *,
    timeouts: ProbeTimeouts = ProbeTimeouts(),  # noqa: B008 - frozen
    command: Sequence[str] | None = None,
) -> Iterator[Watched]:
    """Run a sensor for this session's environment."""
    seen: Watched

    def note() -> None:
        seen.note()

    sensor = PresenceSensor(
        note, command=command, clock=time.time, environment=environment, timeouts=timeouts
    )
    seen = Watched(sensor)
    loop = asyncio.new_event_loop()
    ends = asyncio.Event()

    async def live() -> None:
        task = asyncio.create_task(sensor.run())
        await asyncio.wait({task, asyncio.create_task(ends.wait())}, return_when="FIRST_COMPLETED")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join(20)
        assert not thread.is_alive(), "the sensor does not end"
        loop.close()
