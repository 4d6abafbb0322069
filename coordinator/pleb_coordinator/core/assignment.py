"""Who may take which unit, how many at a time, and for how long.

What depends on other rows (no host gets a unit twice, replicas go to other accounts and
networks) is part of the store's query for candidates; see `store.assignments`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Assignment, Facts, Host, Project, Purpose, UnitRow
from pleb_coordinator.core.reputation import is_proven
from pleb_coordinator.core.unit_state import UnitState
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_shared.protocol.project import ProjectMetadata

__all__ = [
    "LARGEST_SHARE",
    "expected_seconds",
    "lease_seconds",
    "leases_at_once",
    "pick",
    "purposes_for",
    "share_limit",
    "wanted_again",
]

LARGEST_SHARE: Final = 0.2
"""Of a round's units, for one account or public network, in a fleet of five or more."""
_SHORTEST_LEASE_SECONDS: Final = 60.0
_LEASE_FACTOR: Final = 20.0
"""A lease is this many times the expected time: volunteers' PCs pause and sleep."""

_HOST_ORDER: Final = (Purpose.DECIDER, Purpose.REPLICA, Purpose.AUDIT, Purpose.PRIMARY)
_TRUSTED_ORDER: Final = (
    Purpose.EVALUATION,
    Purpose.AUDIT,
    Purpose.DECIDER,
    Purpose.REPLICA,
    Purpose.PRIMARY,
)

_COUNTS: Final = {UnitState.VALID, UnitState.APPLIED, UnitState.CREDITED}
"""States of a unit whose result counts: for the next version, or for its host's credit."""


def purposes_for(host: Host) -> Sequence[Purpose]:
    """Return the purposes of assignments to offer the host, most urgent first."""
    return _TRUSTED_ORDER if host.trusted else _HOST_ORDER


def leases_at_once(host: Host, project: Project) -> int:
    """Return how many assignments the host may hold: a host without a record holds one."""
    proven = host.trusted or is_proven(host, project.metadata.verification)
    return LIMITS.units_per_request if proven else 1


def share_limit(units: int, active_accounts: int) -> int:
    """Return how many units of a round one account or public network may have.

    A fifth; with fewer than five active accounts, an equal part; at least one.
    """
    part = max(LARGEST_SHARE, 1 / max(1, active_accounts))
    return max(1, math.ceil(units * part))


def expected_seconds(
    unit: UnitRow, host: Host, metadata: ProjectMetadata, facts: Facts
) -> float | None:
    """Return how long the unit should take the host; None: its speed is not known yet.

    An evaluation step costs a third of a training step (no backward pass); it is counted in
    full, since reading the holdout takes time too.
    """
    if host.seconds_per_step is None or unit.kind == UnitKind.CALIBRATE:
        return None
    if unit.kind == UnitKind.EVALUATE:
        steps = math.ceil(facts.holdout_examples / metadata.training.batch_examples)
        return host.seconds_per_step * steps
    return host.seconds_per_step * unit.local_steps


def lease_seconds(expected: float | None, longest: float, place: int) -> float:
    """Return the length of a lease for the host's unit number `place` (1: it starts now)."""
    if expected is None:
        return longest
    return min(longest, max(_SHORTEST_LEASE_SECONDS, _LEASE_FACTOR * expected * place))


def pick(
    candidates: Sequence[tuple[Assignment, UnitRow]], count: int, last_shard: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return `count` of the candidates, those on the shard that the host already has first."""
    ordered = sorted(candidates, key=lambda pair: pair[1].shard_first != last_shard)
    return ordered[:count]


def wanted_again(purpose: Purpose, unit: UnitState, *, awaits_verdict: bool) -> bool:
    """Return whether another host is to do what an assignment ended without doing.

    `awaits_verdict`: some result of the unit has no verdict yet.

    - A first try or an evaluation: while the unit is open. Once the next version is made, no new
      host starts on it.
    - A replica or decider: while the unit is open, or results wait for a verdict. A decided unit
      needs neither, unless a later result (an audit's) has started a dispute.
    - An audit: as long as the result that it checks counts, before and after the next version.
    - A calibration: never; its host gets a new one when it asks.
    """
    match purpose:
        case Purpose.PRIMARY | Purpose.EVALUATION:
            return unit == UnitState.OPEN
        case Purpose.REPLICA | Purpose.DECIDER:
            return unit == UnitState.OPEN or awaits_verdict
        case Purpose.AUDIT:
            return unit in _COUNTS
        case Purpose.CALIBRATION:
            return False
