"""The numbers of assignments that hosts see say nothing about their order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.core.numbers import AssignmentNumbers

SECRET = b"s" * 32


@given(st.integers(0, 2**52 - 1))
def test_a_number_is_shown_and_found_again(row):
    shown = AssignmentNumbers(SECRET).shown(row)
    assert 0 <= shown < 2**52, "exact in JSON"
    assert AssignmentNumbers(SECRET).row(shown) == row, "by another process too"


@given(st.integers(2**52, 2**53))
def test_a_number_that_none_has_stays_unknown(shown):
    assert AssignmentNumbers(SECRET).row(shown) == shown


def test_no_two_are_equal_however_many_are_cached():
    numbers = AssignmentNumbers(SECRET)
    shown = [numbers.shown(row) for row in range(30_000)]
    assert len(set(shown)) == len(shown)
    assert [numbers.row(number) for number in shown] == list(range(30_000))


def test_their_order_is_not_that_of_the_rows():
    shown = [AssignmentNumbers(SECRET).shown(row) for row in range(4000)]
    rises = sum(second > first for first, second in pairwise(shown))
    assert 1800 < rises < 2200, "about half"
    low_bits = sum(number & 1 for number in shown)
    assert 1800 < low_bits < 2200
    other = [AssignmentNumbers(b"t" * 32).shown(row) for row in range(4000)]
    assert not set(shown) & set(other), "and nobody can compute it without the secret"
