"""On how many hosts the shards are."""

from __future__ import annotations

import pytest

from pleb_coordinator.core.coverage import Coverage, Given, coverage_of, rounds_of_a_pass
from pleb_shared.protocol.status import CoverageStatus, shown_coverage


def test_a_shard_is_where_its_units_were_and_ranges_wrap_around():
    given = [Given(0, 2, 7), Given(1, 2, 8), Given(1, 2, 8), Given(4, 2, 7)]
    assert coverage_of(5, given) == Coverage(shards=5, covered=4, fewest_hosts=1)
    assert coverage_of(5, [*given, Given(0, 5, 9)]) == Coverage(5, 5, 1)
    everywhere = [Given(3, 100, host) for host in (1, 2, 3)]
    assert coverage_of(5, everywhere) == Coverage(5, 5, 3)


def test_without_units_nothing_is_covered():
    assert coverage_of(5, []) == Coverage(5, 0, 0)
    shown = shown_coverage(CoverageStatus(shards=5, covered=0, fewest_hosts=0, rounds=2))
    assert shown == "none of 5 was given to a host in the last 2 rounds"


def test_it_is_told_in_a_line():
    shown = shown_coverage(CoverageStatus(shards=40, covered=38, fewest_hosts=3, rounds=10))
    assert shown.startswith("38 of 40 given to hosts in the last 10 rounds")
    assert shown.endswith("each of those to 3 hosts at least")


@pytest.mark.parametrize(
    ("shards", "units", "each", "rounds"), [(40, 4, 1, 10), (41, 4, 2, 6), (1, 64, 4, 1)]
)
def test_a_pass_is_as_many_rounds_as_use_every_shard(shards, units, each, rounds):
    assert rounds_of_a_pass(shards, units, each) == rounds
