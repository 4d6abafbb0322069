"""Computing time in proportion to the user's shares, whatever the units' lengths."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_agent.core.shares import (
    Ledger,
    begin,
    charge,
    choose,
    enter,
    forget,
    settle,
    share_of,
)

DAY = 86_400.0


class Machine:
    """One engine, projects with units of given lengths; `idle` ones have no work."""

    def __init__(self, shares, lengths) -> None:
        self.ledger = Ledger()
        self.shares = shares
        self.lengths = {project: itertools.cycle(length) for project, length in lengths.items()}
        self.computed = dict.fromkeys(shares, 0.0)

    def work(self, seconds, idle=()):
        until = sum(self.computed.values()) + seconds
        while sum(self.computed.values()) < until:
            due = {one: share for one, share in self.shares.items() if one not in idle}
            project = choose(self.ledger, due)
            self.ledger = begin(self.ledger, project, self.shares[project])
            length = next(self.lengths[project])
            for _ in range(10):  # progress is charged bit by bit
                self.ledger = charge(self.ledger, project, length / 10, self.shares[project])
            self.ledger = settle(self.ledger, project, self.shares[project])
            self.computed[project] += length

    def share(self, project):
        return self.computed[project] / sum(self.computed.values())


def test_three_to_one_with_unequal_units():
    machine = Machine({1: 300, 2: 100}, {1: [60, 400, 30], 2: [900, 200]})
    machine.work(3 * DAY)
    assert machine.share(1) == pytest.approx(0.75, abs=0.02)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(1, 9), st.integers(1, 1000), min_size=2, max_size=5),
    st.lists(st.floats(10, 5000), min_size=5, max_size=5),
)
def test_no_project_is_further_from_its_share_than_a_few_units(shares, lengths):
    machine = Machine(shares, {p: [lengths[i % 5]] for i, p in enumerate(shares)})
    machine.work(100_000)
    total, weights = sum(machine.computed.values()), sum(shares.values())
    for project, share in shares.items():
        owed = total * share / weights
        assert abs(machine.computed[project] - owed) <= 2 * max(lengths) * len(shares)


def test_an_idle_project_does_not_hoard():
    machine = Machine({1: 100, 2: 100}, {1: [300], 2: [300]})
    machine.work(7 * DAY, idle={2})
    before = dict(machine.computed)
    machine.work(6000)
    gained = {p: machine.computed[p] - before[p] for p in before}
    assert gained[2] - gained[1] <= 600 + 2 * 300  # the bound, and a unit on either side


def test_a_moment_without_work_is_made_up_for():
    machine = Machine({1: 100, 2: 100}, {1: [100], 2: [100]})
    for _ in range(200):
        machine.work(300, idle={2})
        machine.work(700)
    assert machine.share(2) == pytest.approx(0.5, abs=0.02)


def test_a_new_project_begins_with_the_others():
    machine = Machine({1: 100}, {1: [300]})
    machine.work(30 * DAY)
    machine.shares[2], machine.computed[2] = 100, 0.0
    machine.lengths[2] = itertools.cycle([300])
    before = machine.computed[1]
    machine.work(60_000)
    assert machine.computed[2] == pytest.approx(machine.computed[1] - before, abs=600)


def test_one_giant_unit_is_not_held_against_a_project_for_ever():
    machine = Machine({1: 100, 2: 100}, {1: [30 * DAY, *[300] * 10**6], 2: [300]})
    machine.work(30 * DAY + 300)
    before = machine.computed[1]
    machine.work(3 * DAY)
    assert machine.computed[1] - before >= 0.9 * DAY


def test_a_project_that_was_left_leaves_nothing():
    ledger = charge(begin(Ledger(), 1, 100), 1, 500.0, 100)
    assert forget(ledger, 1).spent == {}
    assert forget(ledger, 1).of(1, 100) == ledger.virtual_time


def test_the_project_whose_worker_runs_has_several_turns_and_no_more_than_its_share():
    """Another project needs a new process: short units come in rows, long ones in turns."""
    shares, ledger, warm = {1: 100, 2: 100}, Ledger(), 0
    turns = []
    for _ in range(600):
        ledger = enter(ledger, shares)
        warm = choose(ledger, shares, {warm}, patience_seconds=60)
        ledger = begin(ledger, warm, 100)
        ledger = settle(charge(ledger, warm, 10, 100), warm, 100)
        turns.append(warm)
    changes = sum(a != b for a, b in itertools.pairwise(turns))
    assert changes <= 600 * 10 / 60
    assert turns.count(1) == pytest.approx(300, abs=12)


def test_a_long_unit_ends_the_row():
    ledger = charge(begin(enter(Ledger(), {1: 100, 2: 100}), 1, 100), 1, 300, 100)
    assert choose(ledger, {1: 100, 2: 100}, {1}, patience_seconds=60) == 2


def test_all_members_of_a_family_weigh_as_much_as_one_project():
    assert share_of({}, "alone") == 100
    assert share_of({}, "pair-1", "pair", members=2) == 50
    assert share_of({"pair": 300}, "pair-1", "pair", members=2) == 150
    assert share_of({"pair": 300, "pair-1": 7}, "pair-1", "pair", members=2) == 7
    assert share_of({}, "many-1", "many", members=500) == 1
