"""What must hold for the state tables of units and assignments, whatever their rows are."""

from __future__ import annotations

from pathlib import Path

import pytest

import pleb_coordinator
from pleb_coordinator.core.assignment_state import (
    ASSIGNMENT_MOVES,
    AssignmentEvent,
    AssignmentState,
    next_assignment_state,
)
from pleb_coordinator.core.project_state import PROJECT_MOVES, ProjectEvent
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.core.unit_state import UNIT_MOVES, UnitEvent, UnitState, next_unit_state

A, U, P = AssignmentState, UnitState, ProjectState
TABLES = [
    pytest.param(ASSIGNMENT_MOVES, A, AssignmentEvent, A.UNSENT, id="assignments"),
    pytest.param(UNIT_MOVES, U, UnitEvent, U.OPEN, id="units"),
    pytest.param(PROJECT_MOVES, P, ProjectEvent, P.ACTIVE, id="projects"),
]


def after(moves, state):
    return {found for (before, _), found in moves.items() if before is state}


def reachable(moves, start):
    reached, new = {start}, {start}
    while new:
        new = {state for one in new for state in after(moves, one)} - reached
        reached |= new
    return reached


@pytest.mark.parametrize(("moves", "states", "events", "start"), TABLES)
def test_every_state_can_be_reached_and_every_event_happens(moves, states, events, start):
    assert reachable(moves, start) == set(states)
    assert {event for _, event in moves} == set(events)


@pytest.mark.parametrize(("moves", "states", "events", "start"), TABLES)
def test_every_event_is_raised_outside_of_the_table(moves, states, events, start):
    folder = Path(pleb_coordinator.__file__).parent
    files = [path for name in ("steps", "store") for path in (folder / name).rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [e for e in events if f"{events.__name__}.{e.name}" not in source] == []


@pytest.mark.parametrize(("moves", "states", "events", "start"), TABLES)
def test_no_event_leaves_the_state_as_it_is(moves, states, events, start):
    assert all(before is not found for (before, _), found in moves.items())


def test_nothing_comes_after_an_end():
    ends = {A.LATE, A.FAILED, A.CANCELLED}
    assert {state for state in A if not after(ASSIGNMENT_MOVES, state)} == ends
    assert {state for state in U if not after(UNIT_MOVES, state)} == {U.DISPROVED, U.CANCELLED}


def test_a_result_counts_only_after_its_bytes_are_here():
    before_valid = {before for (before, _), found in ASSIGNMENT_MOVES.items() if found is A.VALID}
    assert before_valid == {A.REPORTED, A.INVALID}, "a pardon needs bytes as well"


def test_only_a_proof_undoes_a_verdict():
    judged = {event for before, event in ASSIGNMENT_MOVES if before in {A.VALID, A.INVALID}}
    assert judged == {
        AssignmentEvent.DISAGREED,
        AssignmentEvent.WITHDRAWN,
        AssignmentEvent.PARDONED,
    }
    decided = {U.VALID, U.APPLIED, U.CREDITED}
    undone = {event for before, event in UNIT_MOVES if before in decided}
    # a new epoch cancels units that no version was made with; their results stay valid
    assert undone == {
        UnitEvent.REFUTED,
        UnitEvent.DISPUTED,
        UnitEvent.APPLIED,
        UnitEvent.CANCELLED,
    }


def test_a_lease_that_ran_out_is_forgiven_but_not_given_again():
    late = after(ASSIGNMENT_MOVES, A.EXPIRED)
    assert {A.REPORTED, A.UPLOADING} <= late
    assert A.LEASED not in late


def test_what_a_version_was_made_from_never_becomes_open_again():
    assert U.OPEN not in reachable(UNIT_MOVES, U.APPLIED)
    assert U.OPEN not in reachable(UNIT_MOVES, U.LATE)
    assert U.APPLIED not in reachable(UNIT_MOVES, U.LATE)


def test_what_is_not_in_the_table_is_a_fault_of_the_caller():
    with pytest.raises(KeyError):
        next_assignment_state(A.CANCELLED, AssignmentEvent.REPORTED)
    with pytest.raises(KeyError):
        next_unit_state(U.LATE, UnitEvent.APPLIED)
