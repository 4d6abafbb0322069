"""The account: as the library composes the same rounds, and never less than what was read."""

from __future__ import annotations

import math
import sys

import dp_accounting
import msgspec
import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, pld, rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_shared.errors import InputError, Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.chunk import Chunk
from pleb_shared.protocol.privacy import (
    SENTENCES,
    NoisedRound,
    Setting,
    Unearned,
    effective_multiplier,
    epsilon_of,
    unearned_by,
)
from pleb_shared.protocol.project import (
    Family,
    Privacy,
    ProjectMetadata,
    Round,
    TensorSpec,
)
from pleb_shared.protocol.status import PrivacyStatus, ProjectStatus, shown_privacy
from tests.conformance.example_metadata import example_metadata

EARNED = Setting(
    warm_start_versions=0,
    chunks=0,
    combination="mean",
    buffers=0,
    units=4,
    quorum=4,
    in_family=False,
)


def rounds_of(versions, units=4, shards_per_unit=1, multiplier=1.0):
    return [NoisedRound(v, units, shards_per_unit, multiplier) for v in range(versions)]


def reading(each, train_shards, mine):
    """Return how many units of a round read one of the shards `mine`, planned one by one."""
    first = each.version * each.units
    return sum(
        any(
            ((first + position) * each.shards_per_unit + i) % train_shards in mine
            for i in range(each.shards_per_unit)
        )
        for position in range(each.units)
    )


@pytest.mark.parametrize(
    ("versions", "units", "shards_per_unit", "shards", "multiplier", "delta"),
    [
        (1, 4, 1, 40, 4.0, 1e-5),
        (40, 16, 1, 60, 8.0, 1e-5),
        (40, 10, 3, 60, 4.0, 1e-6),
        (12, 10, 1, 7, 40.0, 1e-3),
        (200, 8, 2, 64, 20.0, 1e-7),
    ],
)
def test_epsilon_is_the_librarys_own(versions, units, shards_per_unit, shards, multiplier, delta):
    """Each round is an event of its own there, composed by its accountant of privacy losses."""
    rounds = rounds_of(versions, units, shards_per_unit, multiplier)
    mine = epsilon_of(effective_multiplier(rounds, shards, 1), delta)
    worst, bound = 0.0, 0.0
    for shard in range(shards):
        fine, coarse = pld.PLDAccountant(), rdp.RdpAccountant()
        for each in rounds:
            if units_reading := reading(each, shards, {shard}):
                # a shard's two contents are at most 2 clip norms apart in each unit
                event = GaussianDpEvent(multiplier / (2 * units_reading))
                coarse.compose(event)
                if shard < 2:
                    fine.compose(event)
        bound = max(bound, coarse.get_epsilon(delta))
        if shard < 2:
            worst = max(worst, fine.get_epsilon(delta))
    assert mine <= bound, "Renyi's bound is the looser one"
    assert mine == pytest.approx(worst, rel=0.01)


@settings(max_examples=150, deadline=None)
@given(
    versions=st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True),
    units=st.integers(1, 9),
    shards_per_unit=st.integers(1, 4),
    shards=st.integers(1, 25),
    owned=st.sets(st.integers(0, 24), min_size=1, max_size=4),
    others=st.booleans(),
)
def test_no_owner_is_read_more_than_is_counted(
    versions, units, shards_per_unit, shards, owned, others
):
    """Against the plan itself, shard by shard; with rounds of another size among them, too."""
    mine = {shard % shards for shard in owned}
    shards_per_unit = min(shards_per_unit, shards)
    rounds = [NoisedRound(v, units, shards_per_unit, 1.0 + v / 7) for v in versions]
    if others:
        rounds[0] = rounds[0]._replace(units=units + 2)
    read = [2 * reading(each, shards, mine) / each.multiplier for each in rounds]
    counted = 1 / effective_multiplier(rounds, shards, len(mine))
    assert counted >= math.sqrt(sum(one * one for one in read)) * (1 - 1e-12)


@settings(max_examples=100, deadline=None)
@given(
    versions=st.integers(1, 30),
    units=st.integers(1, 9),
    shards_per_unit=st.integers(1, 4),
    shards=st.integers(4, 25),
)
def test_one_shard_is_counted_exactly(versions, units, shards_per_unit, shards):
    rounds = rounds_of(versions, units, shards_per_unit)
    most = max(
        math.sqrt(sum((2 * reading(each, shards, {shard})) ** 2 for each in rounds))
        for shard in range(shards)
    )
    assert 1 / effective_multiplier(rounds, shards, 1) == pytest.approx(most)


def test_nothing_read_costs_nothing():
    assert effective_multiplier([], 10, 1) == math.inf
    assert epsilon_of(math.inf, 1e-5) == 0


def test_epsilon_is_a_number_at_the_bounds_of_what_may_be_set():
    for multiplier, delta in ((1e-3, 1e-300), (1e-3, 0.1), (1e6, 1e-300), (1e-9, 1e-9)):
        found = epsilon_of(multiplier, delta)
        assert math.isfinite(found)
        assert found >= 0
    with np.errstate(all="raise"):
        assert epsilon_of(1.0, 1e-5) == pytest.approx(4.377, abs=1e-3)


def test_without_the_library_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(InputError, match=r"pip install 'pleb-cluster\[privacy\]'"):
        epsilon_of(1.0, 1e-5)
    assert dp_accounting is not None


def test_every_reason_has_a_sentence():
    assert set(SENTENCES) == set(Unearned)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"warm_start_versions": 1}, Unearned.WARM_START),
        ({"chunks": 2}, Unearned.CHUNKS),
        ({"combination": "median"}, Unearned.COMBINATION),
        ({"buffers": 1}, Unearned.BUFFERS),
        ({"quorum": 3}, Unearned.QUORUM),
        ({"in_family": True}, Unearned.FAMILY),
    ],
)
def test_what_earns_no_epsilon_is_named(changes, reason):
    assert [*unearned_by(EARNED)] == []
    assert [*unearned_by(EARNED._replace(**changes))] == [reason]


def described(**changes):
    before = example_metadata("2" * 64)
    noise = Privacy(clip_norm=1.0, noise_multiplier=1.0)
    rounds = Round(units=4, quorum=4)
    return msgspec.structs.replace(before, **({"privacy": noise, "round": rounds} | changes))


def test_metadata_with_noise_that_earns_nothing_are_refused():
    """By everybody who reads them, agents too."""
    good = described()
    replace = msgspec.structs.replace
    chunk = Chunk(
        name="layers",
        parameters=["w"],
        training_graph=good.training_graph,
        memory_bytes=1,
    )
    running = TensorSpec(name="mean", dtype="float32", shape=[2])
    wrong = {
        Unearned.WARM_START: {"training": replace(good.training, warm_start_versions=1)},
        Unearned.CHUNKS: {"chunks": [chunk]},
        Unearned.COMBINATION: {"outer": replace(good.outer, combination="trimmed_mean")},
        Unearned.BUFFERS: {"model": replace(good.model, buffers=[running])},
        Unearned.QUORUM: {"round": Round(units=4, quorum=3)},
        Unearned.FAMILY: {"family": Family(name="f", kind="ensemble", members=["tiny", "b"])},
    }
    for reason, changes in wrong.items():
        with pytest.raises(ValueError, match="cannot hold") as caught:
            described(**changes)
        assert SENTENCES[reason] in str(caught.value)
        described(**changes | {"privacy": None})


@pytest.mark.parametrize(
    "privacy",
    [
        {"clip_norm": 0, "noise_multiplier": 1},
        {"clip_norm": -1, "noise_multiplier": 1},
        {"clip_norm": 1e300, "noise_multiplier": 1},
        {"clip_norm": 1},
        {"noise_multiplier": 1},
        {"clip_norm": 1, "noise_multiplier": 0},
        {"clip_norm": 1, "noise_multiplier": 1e-9},
        {"clip_norm": 1, "noise_multiplier": 1, "delta": 0},
        {"clip_norm": 1, "noise_multiplier": 1, "delta": 1},
        {"clip_norm": 1, "noise_multiplier": 1, "owner_shards": 0},
        {"clip_norm": "1", "noise_multiplier": 1},
        {"clip_norm": 1, "noise_multiplier": 1, "epsilon": 1},
        [],
    ],
)
def test_hostile_settings_are_refused(privacy):
    sound = msgspec.to_builtins(described())
    strict_json.decode(strict_json.encode(sound), ProjectMetadata, most_bytes=10_000)
    with pytest.raises(Refusal):
        strict_json.decode(
            strict_json.encode(sound | {"privacy": privacy}), ProjectMetadata, most_bytes=10_000
        )


def test_people_read_what_is_earned_and_for_whom():
    noise = PrivacyStatus(delta=1e-6, epsilon=2.5, epsilon_planned=7.25)
    status = ProjectStatus(project="p", versions_planned=40, privacy=noise)
    earned, limits = shown_privacy(status)
    assert earned == (
        "Differential privacy of what one shard holds: epsilon 2.5 until now, 7.25 at version 40, "
        "with delta 1e-06."
    )
    assert "volunteers can read the shards" in limits
    owner = msgspec.structs.replace(noise, owner_shards=3)
    status = msgspec.structs.replace(status, privacy=owner)
    assert "an owner's data, in at most 3 shards" in shown_privacy(status)[0]
    refused = PrivacyStatus(unearned=["no_noise", "of a later release"])
    status = msgspec.structs.replace(status, privacy=refused)
    assert shown_privacy(status) == [f"No epsilon: {SENTENCES[Unearned.NO_NOISE]}"]
    refused = PrivacyStatus(epsilon=1.0, unearned=["of a later release"])
    status = msgspec.structs.replace(status, privacy=refused)
    assert shown_privacy(status) == ["No epsilon."]
    assert shown_privacy(msgspec.structs.replace(status, privacy=None)) == []
