"""Who may take which unit, how many at a time, and for how long.

What depends on other rows (no host gets a unit twice, replicas go to other accounts and
networks) is part of the store's query for candidates; see `store.assignments`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.chunks import whole_steps
from pleb_coordinator.core.records import Facts, Host, Purpose, UnitRow
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_shared.protocol.project import ProjectMetadata, Verification

__all__ = [
    "LARGEST_SHARE",
    "TRUSTED_ORDER",
    "exam_hosts",
    "exam_pace_seconds",
    "exams_to_come",
    "expected_seconds",
    "lease_seconds",
    "leases_at_once",
    "most_exams",
    "most_open_exams",
    "share_limit",
]

LARGEST_SHARE: Final = 0.2
"""Of a round's units, for one account or public network, in a fleet of five or more."""
_SHORTEST_LEASE_SECONDS: Final = 60.0
_LEASE_FACTOR: Final = 20.0
"""A lease is this many times the expected time: volunteers' PCs pause and sleep."""
_LEAST_FACTOR: Final = 2.0
"""It is never a smaller multiple, if the project allows that: no host is blamed for being slow."""

TRUSTED_ORDER: Final = (
    Purpose.EVALUATION,
    Purpose.DECIDER,
    Purpose.APPEAL,
    Purpose.CHECK,
    Purpose.SPOT_CHECK,
    Purpose.PRIMARY,
)
"""What trusted hosts do first: what keeps results or hosts waiting, then what might be wrong."""

_ANCHORS_FOR_EXAMS: Final = 0.25
"""Exams that are open, for each proven host: an anchor's time belongs to other work, too."""
_SHARING: Final = 16
"""New hosts for which one more unit of a round becomes an exam."""
_ENOUGH_ANCHORS: Final = 5
"""With fewer, a round could not be filled without exams."""


def leases_at_once(host: Host) -> int:
    """Return how many assignments the host may hold: a host without a record holds one."""
    return LIMITS.units_per_request if host.trusted or host.proven else 1


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
    return host.seconds_per_step * whole_steps(unit, facts)


def lease_seconds(
    expected: float | None, longest: float, ahead: float = 0.0, judged: float = math.inf
) -> float:
    """Return the length of a lease.

    Args:
        expected: how long the unit should take the host, in seconds; None: its speed is not known.
        longest: what the project allows.
        ahead: how long it should take with what it has in hand, and does first.
        judged: for how long a result can be judged. A longer lease would promise too much.
    """
    if expected is None:
        return longest
    least, usual = (
        max(_SHORTEST_LEASE_SECONDS, factor * (ahead + expected))
        for factor in (_LEAST_FACTOR, _LEASE_FACTOR)
    )
    return min(longest, usual, max(least, judged))


def exam_pace_seconds(unit_seconds: float, setbacks: int) -> float:
    """Return how long a new host waits between exams: a median unit's time, more after failures."""
    return unit_seconds * 2.0 ** min(6, setbacks // 4)


def most_open_exams(trusted: int, proven: int) -> int:
    """Return how many exams may be open at once."""
    return math.ceil(_ANCHORS_FOR_EXAMS * proven) + 2 * trusted


def most_exams(metadata: ProjectMetadata, proven: int) -> int:
    """Return how many units of a round may become exams."""
    units = metadata.round.units
    share = metadata.verification.exam_share
    return units if proven < _ENOUGH_ANCHORS else max(1, int(share * units))


def exams_to_come(metadata: ProjectMetadata, new_hosts: int, proven: int, opened: int) -> int:
    """Return how many more units of the round new hosts should share; 0: they are few.

    They would else all share the first one, and each can have a unit only once. `opened` are the
    round's exams by now.
    """
    return max(0, min(most_exams(metadata, proven), new_hosts // _SHARING) - opened)


def exam_hosts(rules: Verification, new_hosts: int, anchors: int) -> int:
    """Return how many new hosts may share one exam: more where there are many for each anchor."""
    return max(rules.exam_hosts, new_hosts // max(1, anchors))
