"""Who may hold how much, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pleb_coordinator.core.assignment import (
    exam_hosts,
    exam_pace_seconds,
    exams_to_come,
    lease_seconds,
    most_exams,
    most_open_exams,
    share_limit,
)
from tests.conformance.example_metadata import example_metadata


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
    ("expected", "ahead", "seconds"),
    [(None, 0, 3600), (0.1, 0, 60), (10, 0, 200), (10, 20, 600), (0.1, 100, 2002), (1000, 0, 3600)],
)
def test_leases(expected, ahead, seconds):
    assert lease_seconds(expected, 3600, ahead) == seconds


@pytest.mark.parametrize(
    ("expected", "judged", "seconds"),
    [(100, 900, 900), (100, 150, 200), (1, 30, 60), (10, 30, 60), (None, 30, 3600)],
)
def test_a_lease_ends_when_its_result_can_be_judged_no_more(expected, judged, seconds):
    assert lease_seconds(expected, 3600, 0, judged) == seconds


@pytest.mark.parametrize(("setbacks", "seconds"), [(0, 300), (3, 300), (4, 600), (1000, 19_200)])
def test_new_hosts_get_exams_no_faster_than_a_usual_unit_and_slower_after_failures(
    setbacks, seconds
):
    assert exam_pace_seconds(300, setbacks) == seconds


def test_exams_leave_most_of_a_round_and_of_the_anchors_to_other_work():
    metadata = example_metadata("2" * 64)
    units = metadata.round.units
    assert most_exams(metadata, proven=4) == units, "otherwise a round could not be filled"
    assert most_exams(metadata, proven=5) == max(1, units // 4)
    assert [most_open_exams(*fleet) for fleet in ((0, 1), (0, 8), (1, 0), (2, 9))] == [1, 2, 2, 7]


def test_the_more_new_hosts_there_are_the_more_units_of_a_round_are_exams():
    metadata = example_metadata("2" * 64)
    metadata = replace(metadata, round=replace(metadata.round, units=64, quorum=48))
    fleets = ((15, 0), (32, 0), (32, 2), (3000, 0), (3000, 10), (3000, 16))
    kept = [exams_to_come(metadata, new, 40, opened) for new, opened in fleets]
    assert kept == [0, 2, 0, 16, 6, 0]


def test_where_new_hosts_are_many_for_each_anchor_more_share_an_exam():
    rules = example_metadata("2" * 64).verification
    assert exam_hosts(rules, 30, 1) == 1000
    assert exam_hosts(rules, 30_000, 10) == 3000
