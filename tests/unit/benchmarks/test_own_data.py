"""The own-data benchmark divides images once, and lies as it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.own_data import MEMBERS, SCALE, cut, label_counts, lying, parts
from pleb_shared.protocol.project import Codec, ModelSpec, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.distance import delta_norm
from pleb_shared.tensors.format import training_format
from tests.conformance.example_metadata import example_metadata

MODEL = ModelSpec(
    parameters=[TensorSpec(name="w", dtype="float32", shape=[40, 30])],
    buffers=[],
    initial=Blob(digest="0" * 64, size=1),
    initial_digest="0" * 64,
)


def draft() -> Any:

    metadata = msgspec.structs.replace(
        example_metadata("1" * 64), model=MODEL, codec=Codec(up="fp32", down="fp32")
    )
    return SimpleNamespace(metadata=metadata)


def test_every_image_is_one_members_and_members_have_other_labels():
    labels = np.arange(3000) % 10
    own = parts(labels, np.random.default_rng(0))
    assert len(own) == MEMBERS
    assert sorted(np.concatenate(own).tolist()) == list(range(3000))
    counts = np.array([label_counts(cut((labels, labels), chosen)) for chosen in own])
    assert counts.sum() == 3000
    shares = counts / counts.sum(axis=0)
    assert (shares.max(axis=0) > 0.5).sum() > 5  # most labels are mostly one member's


@pytest.mark.parametrize(("lie", "factor"), [("scaled", SCALE), ("flipped", 1.0)])
def test_the_last_one_lies_and_the_others_do_not(lie, factor):
    one = draft()
    form = training_format(one.metadata)
    generator = np.random.default_rng(0)
    deltas = [
        (form.encode({"w": generator.normal(size=(40, 30)).astype(np.float32)}), 32.0)
        for _ in range(4)
    ]
    *others, (sent, weight) = lying(one, lie)(0, deltas, SimpleNamespace())  # type: ignore[arg-type]
    assert others == deltas[:3]
    assert weight == 32.0
    true, lied = form.decode(deltas[3][0]), form.decode(sent)
    assert delta_norm(lied, MODEL) == pytest.approx(factor * delta_norm(true, MODEL), rel=1e-3)
    if lie == "flipped":
        assert np.array_equal(lied["w"], -true["w"])
