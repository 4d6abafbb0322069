"""Units on shards that a host has come to it first, among few, and are marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_coordinator.core.records import Assignment, UnitRow
from pleb_coordinator.core.shards import SHARDS_KEPT, missing_shards, pick, with_shards
from pleb_shared.protocol.unit import UnitKind


def made(record, **values):
    """Return a record of which only these values matter."""
    return record(**dict.fromkeys(record.__struct_fields__) | values)


def unit(first, count=1, kind=UnitKind.TRAIN):
    return made(UnitRow, kind=kind, shard_first=first, shard_count=count)


def candidates(*firsts):
    return [(made(Assignment, id=n, out_of_turn=False), unit(f)) for n, f in enumerate(firsts)]


@pytest.mark.parametrize(
    ("first", "count", "had", "missing"),
    [
        (5, 1, [], 1),
        (5, 1, [4, 6], 1),
        (5, 1, [9, 5], 0),
        (5, 4, [], 4),
        (5, 4, [7], 2),
        (5, 4, [2], 3),
        (5, 4, [50], 4),
        (98, 4, [1], 3),  # the list of 100 wraps
        (1, 4, [98], 3),
    ],
)
def test_shards_of_a_unit_that_a_host_lacks(first, count, had, missing):
    assert missing_shards(unit(first, count), had, 100) == missing


def test_what_the_host_has_comes_first_and_is_marked_if_it_was_not_its_turn():
    found = pick(candidates(1, 2, 3, 4), 2, [4, 2], 100)
    assert [(one.id, one.out_of_turn) for one, _ in found] == [(1, False), (3, True)]


@given(
    st.lists(st.integers(0, 30), max_size=12, unique=True),
    st.integers(0, 5),
    st.lists(st.integers(0, 30), max_size=64, unique=True),
)
def test_as_many_as_wanted_and_only_others_are_marked(firsts, count, had):
    given_ = candidates(*firsts)
    found = pick(given_, count, had, 31)
    assert len(found) == min(count, len(given_))
    in_turn = {one.id for one, _ in given_[:count]}
    assert all(one.out_of_turn == (one.id not in in_turn) for one, _ in found)
    if not set(had) & set(firsts):
        assert found == given_[:count], "who has none of them gets what the order says"


def test_the_newest_units_are_remembered_each_once_and_not_evaluations():
    assert with_shards([3, 1], [unit(1), unit(9, kind=UnitKind.EVALUATE), unit(7)]) == [7, 1, 3]
    assert with_shards([], []) == []
    many = with_shards(range(1000), [unit(1000)])
    assert (many[0], len(many)) == (1000, SHARDS_KEPT)
