"""leasing: give assignments to a host, each under a lease."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from pleb_coordinator.core.assignment import lease_seconds
from pleb_coordinator.core.records import Assignment, NewAssignment, Purpose, UnitRow
from pleb_coordinator.core.shards import with_shards
from pleb_coordinator.steps.candidates import keep_chunk
from pleb_coordinator.steps.durations import seconds_in_hand, unit_seconds, usual_round_seconds
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.steps import RequestContext

__all__ = ["give", "lease", "lease_more"]


def lease(
    context: RequestContext, pairs: Sequence[tuple[Assignment, UnitRow]]
) -> list[tuple[Assignment, UnitRow]]:
    """Return unsent assignments, leased to the host."""
    host, project = context.host, context.project
    given = []
    for assignment, unit in pairs:
        expected, ahead = unit_seconds(context, unit), seconds_in_hand(context)
        judged = _seconds_judged(context, unit)
        length = lease_seconds(expected, project.metadata.limits.lease_seconds, ahead, judged)
        if assignment.purpose is Purpose.PRIMARY:
            keep_chunk(context, unit)
            context.deps.rounds_ahead.note_given(project.id)
        given.append((give(context, assignment, unit, context.now + length), unit))
    had = host.had_shards
    if (has := with_shards(had, [unit for _, unit in given])) != had:
        context.changes.shards = has
    return given


def _seconds_judged(context: RequestContext, unit: UnitRow) -> float:
    """Return how long a result of the unit can usually be judged: agents refuse older versions."""
    if unit.kind is not UnitKind.TRAIN:
        return math.inf
    rounds = unit.version - context.project.oldest_accepted
    return max(1, rounds) * usual_round_seconds(context)


def lease_more(
    context: RequestContext, units: Sequence[UnitRow], purpose: Purpose
) -> list[tuple[Assignment, UnitRow]]:
    """Return one more assignment of each unit, leased to the host."""
    pairs = []
    for unit in units:
        new = NewAssignment(unit=unit.id, purpose=purpose, created_at=context.now)
        pairs.append((context.tx.assignments.get(context.tx.assignments.add(new)), unit))
        if purpose is not Purpose.EXAM:  # nothing else is waited for
            context.tx.units.set_look_at(unit.id, None)
    return lease(context, pairs)


def give(
    context: RequestContext, assignment: Assignment, unit: UnitRow, until: float
) -> Assignment:
    """Lease an unsent assignment to the host."""
    nonce = context.deps.random_bytes(16).hex()
    host, now = context.host, context.now
    context.tx.assignments.lease(assignment, host, nonce, now, until)
    detail = {"assignment": assignment.id, "purpose": assignment.purpose}
    context.tx.events.add(unit.project, now, "issued", unit=unit.id, host=host.id, **detail)
    leased = msgspec.structs.replace(
        assignment, host=host.id, nonce=nonce, issued_at=now, lease_until=until
    )
    context.in_hand.append((leased, unit))
    return leased
