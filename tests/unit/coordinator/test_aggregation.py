"""The outer step: against the formulas written out plainly, and bit for bit against itself."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_coordinator.aggregation.combine import clip_factors, mean_delta
from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_shared.errors import EncodingError
from pleb_shared.protocol.project import Codec, ModelSpec, OuterStep, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.format import DeltaFormat

MODEL = ModelSpec(
    parameters=[
        TensorSpec(name="w", dtype="float32", shape=[70, 3]),
        TensorSpec(name="b", dtype="float32", shape=[5]),
    ],
    buffers=[
        TensorSpec(name="mean", dtype="float64", shape=[4]),
        TensorSpec(name="steps", dtype="int64", shape=[]),
        TensorSpec(name="seen", dtype="bool", shape=[2]),
    ],
    initial=Blob(digest="0" * 64, size=0),
    initial_digest="0" * 64,
)


class _Metadata(msgspec.Struct):
    """As much of the metadata as the outer step reads."""

    model: ModelSpec
    codec: Codec
    outer: OuterStep


def metadata(codec="int4"):
    return _Metadata(MODEL, Codec(up=codec, down=codec, block=16), OuterStep())


def version():
    generator = np.random.default_rng(7)
    return {
        "w": generator.normal(size=(70, 3)).astype(np.float32),
        "b": generator.normal(size=5).astype(np.float32),
        "mean": generator.normal(size=4),
        "steps": np.asarray(100, np.int64),
        "seen": np.array([False, True]),
    }


def delta(seed, size=0.01):
    generator = np.random.default_rng(seed)
    return {
        "w": (generator.normal(size=(70, 3)) * size).astype(np.float32),
        "b": (generator.normal(size=5) * size).astype(np.float32),
        "mean": generator.normal(size=4) * size,
        "steps": np.asarray(-5 - seed % 2, np.int64),
        "seen": np.array([-1, 0], np.int64),
    }


def form(codec="int4"):
    return DeltaFormat(MODEL, codec, 16)


def encoded(*deltas, codec="int4"):
    return [form(codec).encode(one) for one in deltas]


def test_no_delta_is_longer_than_the_median():
    assert clip_factors([1.0, 2.0, 8.0]) == [1.0, 1.0, 0.25]
    assert clip_factors([0.0, 0.0, 5.0]) == [1.0, 1.0, 0.0]


def test_the_mean_is_weighted_and_clipped_and_buffers_by_their_own_norms():
    plain = [delta(1), delta(2), delta(3, size=1.0)]
    weights = [1.0, 2.0, 5.0]
    mean = mean_delta(encoded(*plain, codec="fp32"), weights, form("fp32"))
    norms = [np.sqrt(sum((d[n].astype(np.float64) ** 2).sum() for n in "wb")) for d in plain]
    factors = [min(1.0, sorted(norms)[1] / norm) for norm in norms]
    assert factors[2] < 0.1
    for name in ("w", "b"):
        parts = zip(plain, weights, factors, strict=True)
        expected = sum(d[name].astype(np.float64) * w * f for d, w, f in parts) / 8
        np.testing.assert_allclose(mean[name], expected, rtol=1e-6)
        assert mean[name].dtype == np.float32
    own = [np.linalg.norm(d["mean"]) for d in plain]
    limits = [min(1.0, np.median(own) / norm) for norm in own]
    parts = zip(plain, weights, limits, strict=True)
    np.testing.assert_allclose(mean["mean"], sum(d["mean"] * w * f for d, w, f in parts) / 8)
    assert mean["steps"] == np.rint((-6 * 1 - 5 * 2 - 6 * 5) / 8)
    assert mean["steps"].dtype == np.int64


@pytest.mark.parametrize("lie", [3e38, -3e38])
def test_one_buffer_out_of_all_proportion_moves_the_mean_by_no_more_than_an_honest_one(lie):
    honest = [delta(seed) for seed in (1, 2, 3)]
    liar = delta(4) | {"mean": np.full(4, lie), "steps": np.asarray(2**62, np.int64)}
    mean = mean_delta(encoded(*honest, liar), [1.0] * 4, form())
    longest = max(np.linalg.norm(d["mean"]) for d in honest)
    assert np.linalg.norm(mean["mean"]) <= longest
    assert abs(int(mean["steps"])) <= 6


def test_the_outer_step_is_the_formula_and_the_residue_is_kept():
    data = encoded(delta(1), delta(2))
    theta, made = version(), None
    state = OuterState.initial(theta, MODEL)
    master, momentum = theta["w"].astype(np.float64), np.zeros((70, 3))
    for _ in range(5):
        made = next_version(theta, state, [(d, 4.0) for d in data], metadata(), warm_start=False)
        g = mean_delta(data, [4.0, 4.0], form())["w"]
        momentum = 0.7 * momentum + g
        master = master - 0.7 * (g + 0.7 * momentum)
        published = form().decode(made.difference)
        np.testing.assert_array_equal(made.version["w"], theta["w"] + published["w"])
        theta, state = made.version, made.state
        np.testing.assert_allclose(state.masters["w"], master, atol=1e-5)
    gap = np.abs(state.masters["w"] - theta["w"]).max()
    assert 0 < gap < 0.01, "hosts follow the masters; what int4 rounds away is not lost"
    assert theta["steps"] == 100 + 5 * 5, "-6 is clipped to -5.5; rint((-5.5 - 5) / 2) is -5"
    assert theta["seen"].tolist() == [True, True]


def test_a_warm_start_step_is_the_plain_mean_and_leaves_the_momentum_alone():
    theta = version()
    state = OuterState(
        {name: theta[name] for name in "wb"}, {name: np.ones_like(theta[name]) for name in "wb"}
    )
    data = encoded(delta(1), codec="fp32")
    made = next_version(theta, state, [(data[0], 1.0)], metadata("fp32"), warm_start=True)
    np.testing.assert_array_equal(made.state.masters["w"], theta["w"] - delta(1)["w"])
    np.testing.assert_array_equal(made.state.momentum["w"], np.ones((70, 3), np.float32))


def test_the_state_survives_its_bytes_and_repeats_to_the_bit():
    theta = version()
    state = OuterState.initial(theta, MODEL)
    deltas = [(d, 2.0) for d in encoded(delta(1), delta(2), delta(3))]
    once = next_version(theta, state, deltas, metadata(), warm_start=False)
    read = OuterState.from_bytes(once.state.to_bytes())
    assert read.to_bytes() == once.state.to_bytes()
    again = next_version(
        theta, OuterState.from_bytes(state.to_bytes()), deltas, metadata(), warm_start=False
    )
    assert (again.digest, again.difference) == (once.digest, once.difference)
    assert again.state.to_bytes() == once.state.to_bytes()


def test_a_delta_of_another_size_is_refused():
    with pytest.raises(EncodingError):
        mean_delta([b"short"], [1.0], form())


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)), st.sampled_from(["fp32", "int8", "int4", "2bit"]))
def test_the_order_of_deltas_matters_only_in_the_last_bits(order, codec):
    """Float sums depend on it: that is why the log keeps the order."""
    data = encoded(*map(delta, range(4)), codec=codec)
    spec = form(codec)
    straight = mean_delta(data, [1.0] * 4, spec)
    shuffled = mean_delta([data[n] for n in order], [1.0] * 4, spec)
    np.testing.assert_allclose(straight["w"], shuffled["w"], rtol=1e-5, atol=1e-9)
