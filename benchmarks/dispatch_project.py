"""A project of a few hundred numbers, published by the coordinator's own step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.dispatch_fleet import BLOCK, UP
from pleb_coordinator.simulation.project import SmallProject, publish_small
from pleb_shared.protocol.project import Codec, Round, Verification

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store

LEASE_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class RoundSize:
    units: int
    quorum: int
    shortest_unit: float = Round().shortest_unit


def publish_project(store: Store, deps: Deps, name: str, size: RoundSize) -> Project:
    """Return the project, published as a researcher's would be."""
    small = SmallProject(
        name,
        Round(
            units=size.units,
            quorum=size.quorum,
            grace_seconds=0,
            shortest_unit=size.shortest_unit,
        ),
        # the load asks far more often than hosts that compute
        verification=Verification(tolerance=1e-3, tolerance_ceiling=0.05, pace=0),
        codec=Codec(up=UP, down="int4", block=BLOCK),
        lease_seconds=LEASE_SECONDS,
    )
    return publish_small(store, deps, small)
