"""fit: which first tries a host can finish before its round is over, and how long they are.

A unit that no host has had can be shortened. From then on it is what it is: whoever checks it or
tries it again does the same steps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.chunks import cost_of_chunk, fits
from pleb_coordinator.core.fitting import (
    RoundAhead,
    due_by,
    fitting_steps,
    is_late,
    round_ahead,
    seconds_left,
    whole_unit,
)
from pleb_coordinator.core.records import Purpose
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps.durations import seconds_in_hand, unit_seconds, usual_round_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.records import Assignment, Round, UnitRow
    from pleb_coordinator.steps import RequestContext

__all__ = [
    "fitted",
    "in_window",
    "nothing_fits",
    "unit_to_double",
    "window_is_over",
]

_YOUNG_ROUND_SECONDS: Final = 60.0
"""So long after its start many hosts have yet to ask: the last round says how fast they are. Not
longer than that round took: what it says is wrong then, and if nobody else computes, all would be
told that the round ends without them."""
_WINDOW_MARGIN: Final = 1.25
"""A unit should take this much less than the time that its host has: PCs are not always alike."""
_ROUND_MARGIN: Final = 1.05
"""A unit should end this much before its round: without it a twelfth of all work came late, most of
that by less than a twentieth of the round (decision 43)."""
_MOST_IN_HAND: Final = 2000
"""First tries of a round that are read, which takes some five milliseconds; of more a sample."""
_IN_HAND: Final = {AssignmentState.LEASED, AssignmentState.UPLOADING}
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
    window = _window(context)
    if window is not None:
        left = min(left, window / _WINDOW_MARGIN)
    usual = _after_in_hand(context, context.usually_free_seconds)
    for assignment, unit in pairs:
        if unit.batches_per_step > 1:  # a warm start is as long as it is
            found.append((assignment, unit))
            continue
        own_speed = speed * cost_of_chunk(context.project.facts, unit.chunk)
        steps = _fitting(context, ahead, left, own_speed, usual)
        if steps is None:
            break
        shown = unit
        if context.tx.assignments.copies(unit) > 1:  # another host may still deliver it
            if unit.local_steps > steps:
                continue
        elif steps < unit.local_steps:
            context.tx.units.set_steps(unit.id, steps)
            shown = msgspec.structs.replace(unit, local_steps=steps)
        seconds = shown.local_steps * own_speed
        left -= seconds
        usual = None if usual is None else usual - seconds
        found.append((assignment, shown))
    return found


def in_window(
    context: RequestContext,
    pairs: list[tuple[Assignment, UnitRow]],
    given: Sequence[tuple[Assignment, UnitRow]] = (),
) -> list[tuple[Assignment, UnitRow]]:
    """Return those of the pairs that the host should finish before it must be done.

    `given` are those that it gets with the same answer, and does first.
    """
    left = _window(context)
    if left is None:
        return pairs
    left -= sum(_seconds(context, unit) for _, unit in given)
    found = []
    for assignment, unit in pairs:
        seconds = _seconds(context, unit)
        if _WINDOW_MARGIN * seconds <= left:
            left -= seconds
            found.append((assignment, unit))
    return found


def window_is_over(context: RequestContext) -> bool:
    """Whether the host has too little time left for the shortest unit."""
    left, speed = _window(context), context.host.seconds_per_step
    if left is None or not speed:
        return False
    metadata = context.project.metadata
    least = metadata.training.local_steps * metadata.round.shortest_unit
    return left < _WINDOW_MARGIN * least * speed


def _window(context: RequestContext) -> float | None:
    """Return the seconds that the host has for more than it has in hand; None: any number."""
    return _after_in_hand(context, context.free_seconds)


def _after_in_hand(context: RequestContext, seconds: float | None) -> float | None:
    """Return what is left of this time when the host has done what it has in hand."""
    return None if seconds is None else seconds - seconds_in_hand(context)


def _seconds(context: RequestContext, unit: UnitRow) -> float:
    """Return how long the host should need for the unit; 0: its speed is not known yet."""
    return unit_seconds(context, unit) or 0.0


def nothing_fits(context: RequestContext) -> bool:
    """Whether the round is over before the host could finish the shortest unit."""
    ahead, speed = _ahead(context), context.host.seconds_per_step
    if ahead is None or not speed:
        return False
    return _fitting(context, ahead, _left_for_host(context, ahead, speed), speed) is None


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
    for found in ahead.in_one_hand:
        own_speed = speed * cost_of_chunk(context.project.facts, found.chunk)
        slow = found.seconds_left(now) > _FASTER * found.local_steps * own_speed
        if not (slow or is_late(found, now)):
            continue
        unit = tx.units.get(found.unit)
        if not _is_in_one_hand(context, unit):  # since the round was looked at
            continue
        if unit.batches_per_step > 1 and not context.host.trusted:
            continue
        if not fits(unit, context.host):
            continue
        window = _window(context)
        if window is not None and window < _WINDOW_MARGIN * _seconds(context, unit):
            continue
        if not tx.assignments.has_had(found.unit, context.host):
            return unit
    return None


def _is_in_one_hand(context: RequestContext, unit: UnitRow) -> bool:
    """Whether exactly one host computes a first try of the unit, which is not decided."""
    in_hand = [
        found
        for found in context.tx.assignments.of_unit(unit.id)
        if found.purpose is Purpose.PRIMARY and found.state in _IN_HAND
    ]
    return unit.state is UnitState.OPEN and len(in_hand) == 1


def _ahead(context: RequestContext) -> RoundAhead | None:
    """Return what is known of the open round; None: there is none, or its units are all alike."""
    tx, project = context.tx, context.project
    place = (project.id, project.epoch, project.version)
    row = None if project.metadata.round.shortest_unit >= 1 else tx.rounds.get(*place)
    if row is None:
        return None
    version, known = (project.epoch, project.version), context.deps.rounds_ahead
    ahead = known.find(project.id, version, row.valid, context.now)
    if ahead is None:
        ahead = _look(context, row)
        known.keep(project.id, version, row.valid, ahead)
    return msgspec.structs.replace(ahead, needed=row.quorum - row.valid)


def _look(context: RequestContext, row: Round) -> RoundAhead:
    """Look at the first tries of the open round that hosts compute; of very many at a sample."""
    tx, project = context.tx, context.project
    place = (project.id, project.epoch, project.version)
    every = max(1, math.ceil(row.open / _MOST_IN_HAND))
    in_hand = tx.units.first_tries_in_hand(*place, every)
    before = 0.0
    last = tx.rounds.get(project.id, project.epoch, project.version - 1)
    if last is not None and last.closed_at is not None:
        length = max(1.0, last.closed_at - last.opened_at)
        if context.now - row.opened_at < min(_YOUNG_ROUND_SECONDS, length):
            steps = tx.units.steps_of_round(project.id, project.epoch, last.version)
            before = steps / length
    costs = {chunk: cost_of_chunk(project.facts, chunk) for chunk in {f.chunk for f in in_hand}}
    return round_ahead(
        [
            msgspec.structs.replace(
                found, seconds_per_step=found.seconds_per_step * costs[found.chunk]
            )
            for found in in_hand
        ],
        context.now,
        needed=row.quorum - row.valid,
        local_steps=project.metadata.training.local_steps,
        before=before,
        due_by=due_by(usual_round_seconds(context), row.opened_at),
        every=every,
    )


def _left_for_host(context: RequestContext, ahead: RoundAhead, speed: float) -> float:
    """Return for how many seconds the host can compute first tries that are in time for the round.

    `speed` is its seconds per step.
    """
    left = seconds_left(ahead, speed, context.now)
    own = seconds_in_hand(context, Purpose.PRIMARY)
    return (left - own) / _ROUND_MARGIN


def _fitting(
    context: RequestContext,
    ahead: RoundAhead,
    left: float,
    speed: float,
    usual: float | None = None,
) -> int | None:
    """Return the steps that the host does in the time that is left; None: too few.

    In the time that it is `usual`ly free it does at least the shortest unit: that is a guess.
    """
    metadata = context.project.metadata
    whole, shortest = metadata.training.local_steps, metadata.round.shortest_unit
    cap = whole_unit(ahead, seconds_left(ahead, speed, context.now), shortest, context.now)
    if usual is not None:
        cap = min(cap, fitting_steps(usual, speed, whole, shortest) or 1)
    return fitting_steps(left, speed, whole, shortest, cap)
