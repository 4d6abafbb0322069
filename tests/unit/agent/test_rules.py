"""States, the budget and prefetching as tables."""

from __future__ import annotations

import itertools

import pytest

from pleb_agent.core.agent_state import (
    ASSIGNMENT_TABLE,
    FINAL_STATES,
    AssignmentEvent,
    AssignmentState,
    WrongEventError,
    next_state,
)
from pleb_agent.loop.engine import is_time_to_prefetch
from pleb_agent.loop.services import Listener
from pleb_agent.loop.status import LiveStatus, UnitBudget
from pleb_agent.worker.job import Progress


def test_an_event_without_meaning_in_a_state_is_refused():
    for state, event in itertools.product(AssignmentState, AssignmentEvent):
        if (state, event) not in ASSIGNMENT_TABLE:
            with pytest.raises(WrongEventError, match=state.value):
                next_state(state, event)


def test_final_states_are_those_that_nothing_leaves():
    assert {state for state in AssignmentState if not _events(state)} == FINAL_STATES


def test_every_state_is_reached_and_reaches_an_end():
    reached = {AssignmentState.RECEIVED} | set(ASSIGNMENT_TABLE.values())
    assert reached == set(AssignmentState)
    for state in set(AssignmentState) - FINAL_STATES:
        seen, todo = set(), [state]
        while todo:
            here = todo.pop()
            seen.add(here)
            todo += [n for (s, _), n in ASSIGNMENT_TABLE.items() if s is here and n not in seen]
        assert seen & FINAL_STATES, state


def test_a_lease_may_end_wherever_only_the_agent_waits():
    """A computed unit is reported even then: the coordinator says whether it is late."""
    for state in set(AssignmentState) - FINAL_STATES - {AssignmentState.COMPUTED}:
        assert next_state(state, AssignmentEvent.LEASE_ENDED) is AssignmentState.LATE


def _events(state):
    return [event for s, event in ASSIGNMENT_TABLE if s is state]


@pytest.mark.parametrize(
    ("most", "finished", "under_way", "finishing", "wants"),
    [
        (None, 10**6, 5, False, True),
        (None, 0, 0, True, False),
        (3, 2, 0, False, True),
        (3, 2, 1, False, False),
        (3, 3, 0, False, False),
    ],
)
def test_a_budget_counts_what_is_under_way(most, finished, under_way, finishing, wants):
    status = LiveStatus(Listener())
    status.units_finished = finished
    budget = UnitBudget(most)
    budget.count(status)
    budget.finishing = finishing
    assert budget.wants_more(under_way) is wants
    assert budget.is_reached is (most is not None and finished >= most)


@pytest.mark.parametrize(
    ("done", "total", "seconds", "now"),
    [(0, 100, 0, False), (79, 100, 79, False), (80, 100, 80, True), (99, 100, 99, False)],
)
def test_the_next_unit_is_asked_for_late_but_not_too_late(done, total, seconds, now):
    progress = Progress(steps_done=done, steps_total=total, loss=1.0, compute_seconds=seconds)
    assert is_time_to_prefetch(progress, 0.0) is now


@pytest.mark.parametrize(
    ("fetch_seconds", "first"), [(0.0, 80), (10.0, 80), (20.0, 70), (25.0, 63), (500.0, 56)]
)
def test_a_slow_line_asks_for_the_next_unit_earlier(fetch_seconds, first):
    def asks(done):
        progress = Progress(steps_done=done, steps_total=100, compute_seconds=float(done), loss=1.0)
        return is_time_to_prefetch(progress, fetch_seconds)

    assert next(done for done in range(100) if asks(done)) == first
