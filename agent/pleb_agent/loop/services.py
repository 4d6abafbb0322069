"""What the agent's loop works with; the process's composition root builds it by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pleb_agent.blobs.standing import Standings
from pleb_agent.core.devices import CPU

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_agent.cache.blob_cache import BlobCache
    from pleb_agent.client.coordinator import CoordinatorClient
    from pleb_agent.core.history import Event
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readiness import WorkerLimits
    from pleb_agent.core.readings import Readings
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.keys import KeyStore
    from pleb_agent.lan.internet import InternetSharing
    from pleb_agent.lan.sharing import LanSharing
    from pleb_agent.sensors.energy_meter import EnergyMeter
    from pleb_agent.worker.job import Job, JobResult, Progress
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.messages import Runtime

__all__ = [
    "ClientFactory",
    "Clock",
    "CurrentPreferences",
    "Draw",
    "Engine",
    "Listener",
    "Services",
]

Clock = Callable[[], float]
"""Seconds since 1970 on this host."""
Draw = Callable[[], float]
"""A uniform random number in [0, 1)."""
CurrentPreferences = Callable[[], "Preferences"]
"""What the user allows now; called at each use, since it may have changed."""
ClientFactory = Callable[["AttachLink"], "CoordinatorClient"]


class Engine(Protocol):
    """What computes units: `worker.process.WorkerProcess`, or a fake with the same contract."""

    @property
    def pid(self) -> int | None:
        """The process id; None while there is none."""

    @property
    def memory_bytes(self) -> int:
        """What a unit may take of the process that runs, or else of the next one."""

    def limit(self, limits: WorkerLimits) -> None:
        """Apply these limits from the next step on, also in a process that starts later."""

    async def start(self) -> Runtime:
        """Warm up; return what decides about rounding."""

    def run(self, job: Job) -> AsyncIterator[Progress | JobResult]:
        """Compute; the last value is the result. Raises a `WorkerError` instead of one."""

    async def pause(self) -> None:
        """Pause between steps."""

    async def resume(self) -> None:
        """Resume."""

    async def request_checkpoint_and_stop(self) -> None:
        """Make `run` raise `JobStopped` after a checkpoint; then free the memory.

        Without a unit the memory is freed at once. The next `run` starts the process again.
        """

    async def close(self) -> None:
        """End the process."""


class Listener:
    """What the loop reports to the process around it; this one ignores everything."""

    def changed(self) -> None:
        """Something that people see is different now."""

    def happened(self, event: Event) -> None:
        """An event has entered the history."""


@dataclass(frozen=True)
class Services:
    """Everything outside of the loop's own decisions."""

    journal: Journal
    cache: BlobCache
    keys: KeyStore
    engine: Engine
    preferences: CurrentPreferences
    read: Callable[[], Readings]
    make_client: ClientFactory
    work_dir: Path
    clock: Clock
    draw: Draw
    most_wait_seconds: float = 25.0
    """How long the coordinator may hold a request for work before it answers."""
    rest_seconds: float = 300.0
    """How long a warm engine without work keeps its memory."""
    standings: Standings = field(default_factory=Standings)
    """What is remembered of the sources of blobs."""
    lan: LanSharing | None = None
    """The agents of the local network; None: they are left alone."""
    internet: InternetSharing | None = None
    """Hosts elsewhere, if the user wants that."""
    meter: EnergyMeter | None = None
    """Measures the device's energy; None: it is estimated."""
    packages: Callable[[], Path | None] = lambda: None
    """The runtime's folder, of a frozen build."""
    device: str = CPU
    """The name of the one that the engine computes on. Each has services, and a loop, of its own;
    the journal, the cache and the keys are shared."""
