"""Every pair of state and event, for units and for assignments."""

from __future__ import annotations

import itertools

import pytest

from pleb_coordinator.core.assignment_state import (
    ASSIGNMENT_MOVES,
    FINISHED_ASSIGNMENTS,
    AssignmentEvent,
    AssignmentState,
    next_assignment_state,
)
from pleb_coordinator.core.unit_state import UNIT_MOVES, UnitEvent, UnitState, next_unit_state

UNITS = """
open      decided   valid
open      closed    late
open      cancelled cancelled
valid     applied   applied
valid     refuted   open
valid     cancelled cancelled
applied   refuted   disproved
late      decided   credited
late      cancelled cancelled
credited  refuted   late
"""

ASSIGNMENTS = """
unsent    issued    leased
unsent    cancelled cancelled
leased    committed uploading
leased    reported  reported
leased    expired   expired
leased    failed    failed
leased    disagreed invalid
leased    cancelled cancelled
uploading reported  reported
uploading expired   expired
uploading disagreed invalid
uploading cancelled cancelled
reported  agreed    valid
reported  disagreed invalid
reported  set_aside late
expired   committed uploading
expired   reported  reported
expired   disagreed invalid
valid     disagreed invalid
"""


def table(text):
    return {(state, event): after for state, event, after in map(str.split, text.split("\n")[1:-1])}


@pytest.mark.parametrize("state", list(UnitState))
@pytest.mark.parametrize("event", list(UnitEvent))
def test_every_pair_of_a_unit(state, event):
    expected = table(UNITS).get((state.value, event.value))
    if expected is None:
        with pytest.raises(KeyError):
            next_unit_state(state, event)
    else:
        assert next_unit_state(state, event) == expected


@pytest.mark.parametrize("state", list(AssignmentState))
@pytest.mark.parametrize("event", list(AssignmentEvent))
def test_every_pair_of_an_assignment(state, event):
    expected = table(ASSIGNMENTS).get((state.value, event.value))
    if expected is None:
        with pytest.raises(KeyError):
            next_assignment_state(state, event)
    else:
        assert next_assignment_state(state, event) == expected


@pytest.mark.parametrize(
    ("moves", "states"),
    [(UNIT_MOVES, list(UnitState)), (ASSIGNMENT_MOVES, list(AssignmentState))],
)
def test_every_state_can_be_reached(moves, states):
    reached = {states[0]}
    for _ in moves:
        reached |= {after for (before, _), after in moves.items() if before in reached}
    assert reached == set(states)


def test_nothing_is_waited_for_in_a_finished_assignment():
    waiting = set(AssignmentState) - FINISHED_ASSIGNMENTS
    ends = {s for s, _ in ASSIGNMENT_MOVES}
    assert waiting <= ends, "what is waited for can end"
    assert all(
        (state, event) not in ASSIGNMENT_MOVES
        for state, event in itertools.product(
            FINISHED_ASSIGNMENTS, [AssignmentEvent.EXPIRED, AssignmentEvent.ISSUED]
        )
    )
