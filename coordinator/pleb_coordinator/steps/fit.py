"""fit: which first tries a host can finish before its round is over, and how long they are.

A unit that no host has had can be shortened. From then on it is what it is: whoever checks it or
tries it again does the same steps.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.fitting import RoundAhead, fitting_steps, is_late, seconds_left
from pleb_coordinator.core.records import Purpose

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Assignment, UnitRow
    from pleb_coordinator.steps import RequestContext

__all__ = ["fitted", "nothing_fits", "unit_to_double"]

_YOUNG_ROUND_SECONDS: Final = 60.0
"""So long after its start many hosts have yet to ask: the last round says how fast they are."""
_FASTER: Final = 2.0
"""A unit is doubled onto a host that does it in half of the time that is left of it, or sooner."""


def fitted(
    context: RequestContext, pairs: list[tuple[Assignment, UnitRow]]
) -> list[tuple[Assignment, UnitRow]]:
    """Return those first tries that end with their round; new ones are shortened to do so."""
    found = []
    ahead = _ahead(context) if pairs else None
    speed = context.host.seconds_per_step
    if ahead is None or not speed:
        return pairs
    left = _left_for_host(context, ahead, speed)
    for assignment, unit in pairs:
        steps = _fitting(context, left, speed)
        if steps is None:
            break
        shown = unit
        if len(context.tx.assignments.of_unit(unit.id)) > 1:  # another host may still deliver it
            if unit.local_steps > steps:
                continue
        elif steps < unit.local_steps:
            context.tx.units.set_steps(unit.id, steps)
            shown = msgspec.structs.replace(unit, local_steps=steps)
        left -= shown.local_steps * speed
        found.append((assignment, shown))
    return found


def nothing_fits(context: RequestContext) -> bool:
    """Whether the round is over before the host could finish the shortest unit."""
    ahead, speed = _ahead(context), context.host.seconds_per_step
    if ahead is None or not speed:
        return False
    return _fitting(context, _left_for_host(context, ahead, speed), speed) is None


def unit_to_double(context: RequestContext) -> UnitRow | None:
    """Return a unit that its host will finish late, which this one can do sooner; None: none.

    So a round whose units are all assigned waits for no straggler.
    """
    tx, now, speed = context.tx, context.now, context.host.seconds_per_step
    ahead = _ahead(context)
    if ahead is None or not speed or ahead.needed <= 0:
        return None
    if Purpose.PRIMARY in tx.assignments.unsent_purposes(context.project.id):
        return None
    copies = Counter(found.unit for found in ahead.in_hand)
    for found in sorted(ahead.in_hand, key=lambda other: -other.seconds_left(now)):
        slow = found.seconds_left(now) > _FASTER * found.local_steps * speed
        if not (slow or is_late(found, now)) or copies[found.unit] > 1:
            continue
        if not tx.assignments.has_had(found.unit, context.host):
            return tx.units.get(found.unit)
    return None


def _ahead(context: RequestContext) -> RoundAhead | None:
    """Return what is known of the open round; None: there is none, or its units are all alike."""
    tx, project = context.tx, context.project
    place = (project.id, project.epoch, project.version)
    row = None if project.metadata.round.shortest_unit >= 1 else tx.rounds.get(*place)
    if row is None:
        return None
    before = 0.0
    last = tx.rounds.get(project.id, project.epoch, project.version - 1)
    young = context.now - row.opened_at < _YOUNG_ROUND_SECONDS
    if young and last is not None and last.closed_at is not None:
        steps = tx.units.steps_of_round(project.id, project.epoch, last.version)
        before = steps / max(1.0, last.closed_at - last.opened_at)
    return RoundAhead(
        needed=row.quorum - row.valid,
        local_steps=project.metadata.training.local_steps,
        in_hand=tuple(tx.units.first_tries_in_hand(*place)),
        before=before,
    )


def _left_for_host(context: RequestContext, ahead: RoundAhead, speed: float) -> float:
    """Return for how many seconds the host can compute first tries until the round is over.

    `speed` is its seconds per step.
    """
    left = seconds_left(ahead, speed, context.now)
    own = (found for found in ahead.in_hand if found.host == context.host.id)
    return left - sum(found.seconds_left(context.now) for found in own)


def _fitting(context: RequestContext, left: float, speed: float) -> int | None:
    metadata = context.project.metadata
    return fitting_steps(left, speed, metadata.training.local_steps, metadata.round.shortest_unit)
