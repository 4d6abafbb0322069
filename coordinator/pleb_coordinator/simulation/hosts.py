"""Hosts as values: how fast a PC is, when it is on, whose it is, and whether it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.simulation.presence import Habits, Weibull

if TYPE_CHECKING:
    import numpy as np

    from pleb_coordinator.simulation.attacks import Attack

__all__ = ["FleetPlan", "HostPlan", "make_hosts"]

_CLASS_SHARES: Final = (0.6, 0.3, 0.1)
"""How many of the PCs compute to the bit alike: processors of three kinds."""


@dataclass(frozen=True)
class HostPlan:
    """One PC, and what it is like."""

    account: str
    network: str
    """Its public network, as `core.voices.network_of` gives it."""
    unit_seconds: float
    determinism_class: int = 0
    trusted: bool = False
    attack: Attack | None = None
    """None: it computes what it is asked for."""
    instant: bool = False
    """Its lies take no time, since it computes nothing."""
    habits: Habits | None = None
    """When it is on; None: always."""
    fault_rate: float = 0.0
    """Share of its results that bad memory spoils."""
    joins_at: float = 0.0
    tells_hours: bool = False
    """Whether it says when the hours end in which it may work."""


@dataclass(frozen=True)
class FleetPlan:
    """A fleet to make hosts for."""

    hosts: int = 60
    """Volunteers, the hostile ones among them."""
    trusted: int = 1
    hostile_share: float = 0.0
    attack: Attack | None = None
    instant: bool = False
    unit_seconds: float = 300.0
    """Median over hosts."""
    speed_spread: float = 0.4
    """Of the logarithm of `unit_seconds`."""
    speeds: tuple[float, ...] = ()
    """Of the volunteers in turn, relative to `unit_seconds`; empty: drawn by `speed_spread`."""
    on_hours: float = 0.0
    """How long volunteers are on at a time, on average; 0: always, or as `habits` say."""
    off_hours: float = 8.0
    habits: tuple[tuple[float, Habits], ...] = ()
    """Shares of honest volunteers with habits; what is missing from 1 is always on."""
    tells_hours: bool = False
    """Whether volunteers say when their `Habits.window` ends."""
    fault_rate: float = 0.0
    record: int = 0
    """Accepted results that all volunteers have at the start; 0: all are new."""
    calm_hours: float = 0.0
    """Until then hostile hosts are honest."""
    join_seconds: float = 60.0
    """Time over which the fleet enrols."""
    newcomers: int = 0
    """More honest volunteers, who come at `newcomers_at` within two hours."""
    newcomers_at: float = 4 * 3600.0


def make_hosts(plan: FleetPlan, generator: np.random.Generator) -> list[HostPlan]:
    """Return trusted hosts first, then volunteers in random order of joining."""
    found = [
        HostPlan(f"operator-{number}", "", plan.unit_seconds, trusted=True)
        for number in range(plan.trusted)
    ]
    hostile = round(plan.hosts * plan.hostile_share)
    for number in range(plan.hosts + plan.newcomers):
        lies = number < hostile
        late = number >= plan.hosts
        joins_at = generator.uniform(10, 10 + (2 * 3600.0 if late else plan.join_seconds))
        slowness = (
            1 / plan.speeds[number % len(plan.speeds)]
            if plan.speeds
            else generator.lognormal(0, plan.speed_spread)
        )
        found.append(
            HostPlan(
                account=f"person-{number}",
                network=network(number),
                unit_seconds=plan.unit_seconds * slowness,
                determinism_class=int(generator.choice(len(_CLASS_SHARES), p=_CLASS_SHARES)),
                attack=plan.attack if lies else None,
                instant=plan.instant and lies,
                habits=None if lies else _habits(plan, generator),
                fault_rate=0.0 if lies else plan.fault_rate,
                tells_hours=plan.tells_hours,
                joins_at=joins_at + (plan.newcomers_at if late else 0.0),
            )
        )
    return found


def _habits(plan: FleetPlan, generator: np.random.Generator) -> Habits | None:
    if plan.on_hours:
        return Habits(Weibull(1.0, plan.on_hours), Weibull(1.0, plan.off_hours))
    drawn = generator.random() if plan.habits else 1.0
    for share, habits in plan.habits:
        drawn -= share
        if drawn < 0:
            return habits
    return None


def network(number: int) -> str:
    """Return a public network; each number has another one."""
    return f"{11 + number // 65_536}.{number // 256 % 256}.{number % 256}.0/24"
