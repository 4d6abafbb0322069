"""The tolerance: when results agree, and what it follows."""

from __future__ import annotations

import math

import pytest

from pleb_coordinator.core.tolerance import Closeness, ConfirmedPair, tolerance_of
from pleb_shared.protocol.project import Verification

RULES = Verification(tolerance=0.01, tolerance_ceiling=0.03)


@pytest.mark.parametrize(
    ("distance", "closeness"),
    [
        (0.0, Closeness.AGREE),
        (0.01, Closeness.AGREE),
        (0.0101, Closeness.NEAR),
        (0.03, Closeness.NEAR),
        (0.0301, Closeness.FAR),
        (math.inf, Closeness.FAR),
        (math.nan, Closeness.FAR),
    ],
)
def test_a_mismatch_up_to_three_tolerances_is_a_near_miss(distance, closeness):
    found = tolerance_of(RULES, 0.0, [])
    assert found.compare(distance, ("a", "a"), alike=True) is closeness


def pairs(distances, *, host="host", own="b", count=8):
    """`count` pairs of one host with a trusted host of class a."""
    found = (distances * count)[:count]
    return [ConfirmedPair(5, host, f"network of {host}", own, "a", d) for d in found]


def test_without_pairs_the_tolerance_is_the_researchers_or_the_calibrated_one():
    assert tolerance_of(RULES, 0.0, []).agree == 0.01
    assert tolerance_of(RULES, 0.02, []).agree == 0.02
    assert tolerance_of(RULES, 0.5, []).agree == 0.03


def test_it_follows_honest_hosts_up_to_the_researchers_ceiling():
    three = [p for host in "xyz" for p in pairs([0.012], host=host)]
    assert tolerance_of(RULES, 0.0, three).agree == pytest.approx(0.018)
    wide = [p for host in "xyz" for p in pairs([0.2], host=host)]
    found = tolerance_of(RULES, 0.0, wide)
    assert found.agree == 0.03
    # beyond the ceiling they do not confirm each other, but none of them is wrong either
    assert found.compare(0.25, ("a", "a"), alike=True) is Closeness.NEAR


def test_a_class_of_few_hosts_counts_as_much_as_a_class_of_many():
    many = [p for n in range(20) for p in pairs([0.0], host=f"same {n}", own="a")]
    few = [p for host in "xyz" for p in pairs([0.012], host=host)]
    assert tolerance_of(RULES, 0.0, [*many, *few]).agree == pytest.approx(0.018)


def test_two_hosts_of_a_kind_do_not_widen_it_nor_many_of_one_network():
    two = [p for host in "xy" for p in pairs([0.02], host=host, count=50)]
    assert tolerance_of(RULES, 0.0, two).agree == 0.01
    one_network = [
        ConfirmedPair(5, host, "198.51.100.0/24", "b", "a", 0.02)
        for host in "vwxyz"
        for _ in range(9)
    ]
    assert tolerance_of(RULES, 0.0, one_network).agree == 0.01


def test_a_minority_of_liars_in_a_class_widens_nothing():
    honest = [p for host in "uvwxyz" for p in pairs([0.001], host=host)]
    liars = [p for host in "12345" for p in pairs([0.03], host=host, count=40)]
    assert tolerance_of(RULES, 0.0, [*honest, *liars]).agree == 0.01


def test_a_rare_large_distance_of_honest_hosts_is_a_near_miss_and_widens_nothing():
    honest = [p for host in "xyz" for p in pairs([*[0.001] * 19, 0.025], host=host, count=20)]
    found = tolerance_of(RULES, 0.0, honest)
    assert found.agree == 0.01
    assert found.compare(0.025, ("a", "a"), alike=True) is Closeness.NEAR


def test_hosts_of_one_kind_that_differ_by_more_than_three_tolerances_differ():
    found = tolerance_of(RULES, 0.0, [])
    assert found.compare(0.2, ("a", "a"), alike=True) is Closeness.FAR


@pytest.mark.parametrize("distance", [0.95, 1.0, 1.4, 2.0])
def test_between_two_kinds_a_lie_is_far_once_they_are_known_to_be_close(distance):
    unknown = tolerance_of(RULES, 0.0, pairs([0.004], count=7))
    assert unknown.compare(distance, ("b", "a"), alike=False) is Closeness.NEAR
    known = tolerance_of(RULES, 0.0, pairs([0.004], count=8))
    assert known.compare(distance, ("b", "a"), alike=False) is Closeness.FAR
    assert known.compare(0.4, ("b", "a"), alike=False) is Closeness.NEAR
    assert known.compare(distance, ("c", "a"), alike=False) is Closeness.NEAR


def test_between_two_kinds_that_drift_apart_no_distance_is_a_verdict():
    drifting = pairs([0.0001, 0.0002, 0.19, 0.03], count=20)
    found = tolerance_of(RULES, 0.0, drifting)
    assert found.compare(1.3, ("a", "b"), alike=False) is Closeness.NEAR
    assert found.agree == 0.01


@pytest.mark.parametrize("distance", [math.inf, math.nan])
def test_what_is_not_finite_is_far_from_everything(distance):
    found = tolerance_of(RULES, 0.0, [])
    for alike in (False, True):
        assert found.compare(distance, ("a", "b"), alike=alike) is Closeness.FAR
