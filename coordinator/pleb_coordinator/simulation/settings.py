"""What a simulated fleet and its project are like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pleb_coordinator.simulation.hosts import FleetPlan
from pleb_shared.protocol.project import Codec, Round, Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    UsuallyFree = Callable[[Sequence[tuple[float, float]], float, float], float | None]

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """What a project's operator and researcher choose, and how long the fleet runs."""

    fleet: FleetPlan = field(default_factory=FleetPlan)
    hours: float = 6.0
    seed: int = 1
    round: Round = field(default_factory=lambda: Round(units=64, quorum=48))
    verification: Verification = field(
        default_factory=lambda: Verification(tolerance=0.025, tolerance_ceiling=0.075)
    )
    codec: Codec = field(default_factory=lambda: Codec(up="int4", down="int4", block=64))
    local_steps: int = 100
    lease_seconds: float = 3600.0
    shards: int = 64
    outages: tuple[tuple[float, float], ...] = ()
    """When the coordinator is down: from which hour on, and for how many hours."""
    restores: tuple[tuple[float, float], ...] = ()
    """When the coordinator is restored, in hours, from a backup that is so many hours old."""
    moves: tuple[tuple[float, float], ...] = ()
    """When the coordinator is moved to another store, in hours, and how many hours it is down."""
    usually_free: UsuallyFree | None = None
    """What hosts say of their habits: the times on so far, since when they are on, and now, to the
    seconds that they expect. None: nothing."""
    trains: bool = False
    """Honest hosts really train a small model (`trained`); else their deltas are made up."""
    calm_share: float = 0.5
    """Part of the time after which those who turn all at once do so."""
