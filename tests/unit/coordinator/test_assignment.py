"""Who may hold how much, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.core.assignment import (
    lease_seconds,
    pick,
    share_limit,
    wanted_again,
)
from pleb_coordinator.core.records import Purpose, UnitRow
from pleb_coordinator.core.unit_state import UnitState
from pleb_shared.protocol.unit import UnitKind


@pytest.mark.parametrize(
    ("units", "accounts", "limit"),
    [(64, 0, 64), (64, 1, 64), (64, 2, 32), (64, 3, 22), (64, 5, 13), (64, 1000, 13), (2, 9, 1)],
)
def test_shares(units, accounts, limit):
    assert share_limit(units, accounts) == limit


@given(st.integers(1, 10_000), st.integers(0, 10_000))
def test_all_accounts_together_can_always_finish_a_round(units, accounts):
    assert share_limit(units, accounts) * max(1, accounts) >= min(units, accounts or units)
    assert max(1, min(accounts, 5)) * share_limit(units, accounts) >= units


@pytest.mark.parametrize(
    ("expected", "place", "seconds"),
    [(None, 1, 3600), (0.1, 1, 60), (10, 1, 200), (10, 3, 600), (1000, 1, 3600)],
)
def test_leases(expected, place, seconds):
    assert lease_seconds(expected, 3600, place) == seconds


def candidate(number):
    place = (number, 1, 0, 0, UnitKind.TRAIN, number)
    return UnitRow(*place, 0, number % 3, 1, 5, UnitState.OPEN, 0, False, None, 0.0, None)


def test_the_shard_at_home_comes_first_and_the_order_stays_otherwise():
    candidates: Any = [(n, candidate(n)) for n in range(6)]
    assert [unit.id for _, unit in pick(candidates, 3, 2)] == [2, 5, 0]
    assert [unit.id for _, unit in pick(candidates, 3, -1)] == [0, 1, 2]


@pytest.mark.parametrize(
    "purpose", [Purpose.PRIMARY, Purpose.REPLICA, Purpose.DECIDER, Purpose.EVALUATION]
)
def test_an_open_unit_is_never_forgotten(purpose):
    assert wanted_again(purpose, UnitState.OPEN, awaits_verdict=False)


@pytest.mark.parametrize("purpose", Purpose)
def test_a_cancelled_unit_is_not_repeated(purpose):
    assert not wanted_again(purpose, UnitState.CANCELLED, awaits_verdict=False)


@pytest.mark.parametrize("state", [UnitState.VALID, UnitState.APPLIED, UnitState.CREDITED])
def test_a_result_that_counts_does_not_escape_its_audit(state):
    assert wanted_again(Purpose.AUDIT, state, awaits_verdict=False)
    assert not wanted_again(Purpose.REPLICA, state, awaits_verdict=False)
    assert wanted_again(Purpose.DECIDER, state, awaits_verdict=True), "the audit disagreed"
