"""The lies of the robustness benchmark stay where the project's checks do not see them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.robustness import ATTACKS, HOSTILE, UNITS, VERSIONS, Case, leaks_of, lies_of
from pleb_shared.protocol.project import ModelSpec, OuterStep, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.distance import delta_norm

MODEL = ModelSpec(
    parameters=[TensorSpec(name="w", dtype="float32", shape=[40, 30])],
    buffers=[],
    initial=Blob(digest="0" * 64, size=0),
    initial_digest="0" * 64,
)
METADATA: Any = SimpleNamespace(model=MODEL, outer=OuterStep())


def deltas(count):
    generator = np.random.default_rng(1)
    shared = generator.normal(size=(40, 30))
    noise = (generator.normal(size=(40, 30)) for _ in range(count))
    return [{"w": (shared + one).astype(np.float32)} for one in noise]


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_lie_is_inside_of_the_band_and_none_is_honest(attack):
    honest, own, marked = deltas(8), deltas(2), deltas(2)
    case = Case("mean", attack, everyone=True, seed=1, small=True)
    lies = lies_of(case, own, honest, marked, METADATA)
    assert len(lies) == len(own)
    norms = [delta_norm(delta, MODEL) for delta in [*honest, *lies]]
    assert max(norms) <= OuterStep().norm_band * np.median(norms) * 1.001
    for lie, true in zip(lies, own, strict=True):
        assert lie["w"].dtype == np.float32
        assert not np.array_equal(lie["w"], true["w"])


@pytest.mark.parametrize("seed", range(50))
def test_at_least_one_lie_leaks_late_and_few_leak_in_all(seed):
    lies = leaks_of(np.random.default_rng(seed))
    assert any(number >= VERSIONS * 3 // 4 for number in lies)
    assert all(0 <= number < VERSIONS and 1 <= count <= HOSTILE for number, count in lies.items())
    assert sum(lies.values()) < 0.05 * UNITS * VERSIONS
