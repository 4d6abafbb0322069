"""When a round is over; which units make it; in which order requests come."""

from __future__ import annotations

import collections

import msgspec
import pytest

from pleb_coordinator.core.calibration import isolated_classes, raised_tolerance
from pleb_coordinator.core.planning import (
    Around,
    round_quorum,
    round_units,
    unit_seed,
    warm_start_pays,
    warm_start_units,
)
from pleb_coordinator.core.records import CalibrationClass, Facts, Round
from pleb_coordinator.core.rounds import due_at, ready
from pleb_coordinator.core.sequence import Order, check_sequence
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import Round as RoundRules
from pleb_shared.protocol.project import Verification
from tests.conformance.example_metadata import example_metadata


def round_row(**changes):
    row = Round(
        project=1,
        epoch=0,
        version=0,
        units=4,
        quorum=3,
        open=1,
        valid=3,
        opened_at=0.0,
        quorum_at=100.0,
        closed_at=None,
    )
    return msgspec.structs.replace(row, **changes)


@pytest.mark.parametrize(
    ("changes", "now", "over"),
    [
        ({}, 129, False),
        ({}, 130, True),
        ({"open": 0, "valid": 4}, 100, True),
        ({"valid": 2, "open": 2}, 1e9, False),
        ({"closed_at": 120.0}, 1e9, False),
        ({"quorum_at": None}, 1e9, False),
    ],
)
def test_a_round_is_over_with_its_quorum_and_after_all_or_the_grace(changes, now, over):
    assert ready(round_row(**changes), 30, now) == over


def test_the_end_of_the_grace_is_known_once_it_has_begun():
    assert due_at(round_row(), 30) == 130
    assert due_at(round_row(quorum_at=None), 30) is None
    assert due_at(round_row(valid=2), 30) is None


def example():
    """Seven shards, two for each unit; maybe two warm starts, and eight units in other rounds."""
    metadata = example_metadata("ab" * 32)
    training = msgspec.structs.replace(
        metadata.training,
        versions=9,
        warm_start_versions=2,
        warm_start_batches=8,
        shards_per_unit=2,
    )
    return msgspec.structs.replace(metadata, training=training, round=RoundRules(units=8, quorum=8))


def planned():
    facts = Facts(1, 7, 0, 0)
    return [round_units(example(), facts, version) for version in range(10)]


def around(trusted=0, fastest=None, others=0):
    return Around(trusted, fastest, others)


def test_shards_are_used_evenly_over_all_rounds():
    used = collections.Counter(
        (unit.shard_first + k) % 7 for units in planned() for unit in units for k in range(2)
    )
    assert max(used.values()) - min(used.values()) <= 1


def test_all_rounds_have_their_units_and_the_last_version_none():
    assert [len(units) for units in planned()] == [8] * 9 + [0]
    assert round_quorum(example()) == 8


def test_a_warm_start_is_one_unit_with_the_batches_and_shards_of_a_round():
    facts, steps = Facts(1, 70, 0, 0), example().training.local_steps
    [unit] = warm_start_units(example(), facts, 1)
    assert (unit.local_steps, unit.batches_per_step) == (8 * steps, 8)
    assert (unit.shard_first, unit.shard_count) == (16, 16)
    [small] = warm_start_units(example(), Facts(1, 7, 0, 0), 1)
    assert (small.shard_first, small.shard_count) == (2, 7)
    assert warm_start_units(example(), facts, 9) == []
    many = msgspec.structs.replace(example().training, local_steps=LIMITS.local_steps // 2)
    long = msgspec.structs.replace(example(), training=many)
    [unit] = warm_start_units(long, facts, 1)
    assert unit.local_steps == LIMITS.local_steps, "hosts refuse an answer with a longer unit"


def test_other_units_can_follow_in_the_place_of_a_warm_start():
    facts = Facts(1, 7, 0, 0)
    units = round_units(example(), facts, 1, first_position=1)
    assert [unit.position for unit in units] == list(range(1, 9))
    assert [u.shard_first for u in units] == [u.shard_first for u in planned()[1]]
    assert len({unit.seed for unit in [*units, *warm_start_units(example(), facts, 1)]}) == 9


@pytest.mark.parametrize(
    ("version", "who", "seconds", "pays"),
    [
        (0, around(), 1e6, True),  # nobody waits for it
        (0, around(others=3), 59, True),
        (0, around(others=3), 61, False),
        (0, around(trusted=1, others=3), 1e6, True),
        (1, around(trusted=1, fastest=0.1), 0, True),
        (1, around(trusted=1, fastest=100.0), 0, False),  # others would wait too long
        (2, around(trusted=1), 0, False),
    ],
)
def test_a_warm_start_is_for_a_trusted_host_that_is_there_and_fast(version, who, seconds, pays):
    assert warm_start_pays(example(), version, who, seconds) is pays


def test_seeds_differ_everywhere_and_fit_63_bits():
    seeds = [unit.seed for units in planned() for unit in units]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert unit_seed("p", 2, 3, 4) != unit_seed("p", 3, 3, 4)


def test_requests_come_in_order():
    assert check_sequence(4, "d", 5, "e") == Order.FRESH
    assert check_sequence(4, "d", 4, "d") == Order.REPEATED
    for sequence, code in ((4, RefusalCode.SEQUENCE_REUSED), (3, RefusalCode.STALE_SEQUENCE)):
        with pytest.raises(Refusal) as caught:
            check_sequence(4, "d", sequence, "x")
        assert caught.value.code == code


RULES = Verification(tolerance=1e-3, tolerance_ceiling=1e-2)


def found(digest, accounts=2, *, trusted=False, at=0.0):
    return CalibrationClass(1, digest, 1, True, accounts, trusted, False, at)


def test_classes_of_trusted_hosts_or_of_many_raise_the_tolerance_and_only_to_the_ceiling():
    apart = {("a", "b"): 4e-3}
    many, trusted = found("a", 5), found("b", 1, trusted=True)
    assert raised_tolerance([many, trusted], apart, RULES) == 8e-3
    assert raised_tolerance([many, found("b", 5)], apart, RULES) == 8e-3
    assert raised_tolerance([many, found("b", 4)], apart, RULES) == 1e-3
    assert raised_tolerance([found("a", 30), found("b", 9)], apart, RULES) == 1e-3
    assert raised_tolerance([many, trusted], {("a", "b"): 9e-3}, RULES) == 1e-2
    assert raised_tolerance([many, trusted], {("a", "b"): 2e-2}, RULES) == 1e-3


def test_the_class_of_trusted_hosts_or_of_most_accounts_is_the_main_one():
    apart = {("a", "b"): 0.5, ("a", "c"): 5e-3, ("b", "c"): 0.5}
    classes = [found("b", 1), found("a", 3), found("c", 1)]
    assert isolated_classes(classes, apart, 1e-2) == {"b"}
    assert isolated_classes(classes, apart, 1e-3) == {"b", "c"}
    trusted = [found("b", 1, trusted=True), found("a", 3), found("c", 1)]
    assert isolated_classes(trusted, apart, 1e-2) == {"a", "c"}
    alone = [found("b", 1), found("a", 1)]
    assert isolated_classes(alone, apart, 1e-2) == set(), "one voice excludes nobody"
    assert isolated_classes([], apart, 1e-2) == set()
