"""What a project with data of its hosts' own cannot have."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pleb_shared.protocol.chunk import Chunk
from pleb_shared.protocol.own_data import (
    UNBOUNDED,
    OwnData,
    OwnRange,
    Unbounded,
    own_shard_examples,
)
from pleb_shared.protocol.project import DataSpec, Family, Privacy, Round, epoch_changes
from pleb_shared.protocol.signing import SigningKey
from tests.conformance.example_metadata import example_metadata

replace = msgspec.structs.replace


def described(**changes):
    metadata = example_metadata(SigningKey.generate().public)
    own = {
        "issued_at": 1,
        "access": "invited",
        "sealed_with": 1,
        "data": replace(metadata.data, own=OwnData(reader="npz")),
        "outer": replace(metadata.outer, combination="centred_clipping"),
        "round": Round(units=4, quorum=3),
    }
    return replace(metadata, **own | changes)


def test_each_thing_that_leaves_a_member_unbounded_is_refused_with_its_sentence():
    good = described()
    chunk = Chunk(
        name="layers", parameters=["w"], training_graph=good.training_graph, memory_bytes=1
    )
    windows = DataSpec(
        kind="windows",
        window=2,
        inputs=good.data.inputs,
        shards=good.data.shards,
        own=good.data.own,
    )
    wrong: dict[Unbounded, dict[str, Any]] = {
        Unbounded.ACCESS: {"access": "public", "sealed_with": 0},
        Unbounded.QUORUM: {"round": Round(units=4, quorum=2)},
        Unbounded.COMBINATION: {"outer": replace(good.outer, combination="mean")},
        Unbounded.WARM_START: {"training": replace(good.training, warm_start_versions=1)},
        Unbounded.CHUNKS: {"chunks": [chunk]},
        Unbounded.WINDOWS: {"data": windows},
    }
    for reason, changes in wrong.items():
        with pytest.raises(ValueError, match="data on the hosts cannot be used here") as caught:
            described(**changes)
        assert UNBOUNDED[reason] in str(caught.value), reason
        described(**changes | {"data": replace(changes.get("data", good.data), own=None)})
    assert set(UNBOUNDED) == set(Unbounded)


def test_noise_and_families_are_refused_with_own_data():
    privacy = Privacy(clip_norm=1, noise_multiplier=1)
    exact = {"outer": replace(described().outer, combination="mean")}
    with pytest.raises(ValueError, match="neither shards nor a mean"):
        described(privacy=privacy, round=Round(units=4, quorum=4), **exact)
    family = Family(name="f", kind="ensemble", members=["tiny", "b"])
    with pytest.raises(ValueError, match="published alone"):
        described(family=family)


def test_a_draft_may_be_made_before_it_is_sealed():
    described(access="public", sealed_with=0, issued_at=0)


def test_how_hosts_read_stays_as_long_as_an_epoch():
    before = described()
    own = OwnData(reader="npz", ranges=[OwnRange(name="y", least=0, most=3)])
    after = replace(before, data=replace(before.data, own=own))
    assert epoch_changes(before, after) == ["data"]


def test_a_local_shard_has_a_batch_at_least():
    assert own_shard_examples(784, 32) == 4 * 2**20 // 784
    assert own_shard_examples(2**20, 32) == 32
    assert own_shard_examples(0, 8) == 4 * 2**20
