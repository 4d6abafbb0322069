"""The outer step: against the formulas written out plainly, and bit for bit against itself."""

from __future__ import annotations

from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_coordinator.aggregation.combine import clip_factors, combined_delta, trimmed_count
from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_shared.errors import EncodingError
from pleb_shared.protocol.project import Codec, CombinationRule, ModelSpec, OuterStep, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.format import DeltaFormat
from tests.e2e import recompute

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


RULES = get_args(CombinationRule)


class _Metadata(msgspec.Struct):
    """As much of the metadata as the outer step reads."""

    model: ModelSpec
    codec: Codec
    outer: OuterStep
    privacy: None = None


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


def combined(deltas, weights=None, codec="int4", **rule):
    weights = [1.0] * len(deltas) if weights is None else weights
    return combined_delta(encoded(*deltas, codec=codec), weights, form(codec), OuterStep(**rule))


def test_deltas_inside_the_band_stay_and_longer_ones_end_at_it():
    assert clip_factors([1.0, 2.0, 5.9], 3.0) == [1.0, 1.0, 1.0]
    assert clip_factors([1.0, 2.0, 24.0], 3.0) == [1.0, 1.0, 0.25]
    assert clip_factors([0.0, 0.0, 5.0], 3.0) == [1.0, 1.0, 0.0]


def test_the_mean_is_weighted_and_clipped_and_buffers_by_their_own_norms():
    plain = [delta(1), delta(2), delta(3, size=1.0)]
    weights = [1.0, 2.0, 5.0]
    mean = combined(plain, weights, "fp32", norm_band=2.0)
    norms = [np.sqrt(sum((d[n].astype(np.float64) ** 2).sum() for n in "wb")) for d in plain]
    factors = [min(1.0, 2 * sorted(norms)[1] / norm) for norm in norms]
    assert factors[2] < 0.1
    for name in ("w", "b"):
        parts = zip(plain, weights, factors, strict=True)
        expected = sum(d[name].astype(np.float64) * w * f for d, w, f in parts) / 8
        np.testing.assert_allclose(mean[name], expected, rtol=1e-6)
        assert mean[name].dtype == np.float32
    own = [np.linalg.norm(d["mean"]) for d in plain]
    limits = [min(1.0, 2 * np.median(own) / norm) for norm in own]
    parts = zip(plain, weights, limits, strict=True)
    np.testing.assert_allclose(mean["mean"], sum(d["mean"] * w * f for d, w, f in parts) / 8)
    assert mean["steps"] == np.rint((-6 * 1 - 5 * 2 - 6 * 5) / 8), "no honest count is clipped"
    assert mean["steps"].dtype == np.int64


@pytest.mark.parametrize("lie", [3e38, -3e38])
def test_one_buffer_out_of_all_proportion_moves_the_mean_by_no_more_than_an_honest_one(lie):
    honest = [delta(seed) for seed in (1, 2, 3)]
    liar = delta(4) | {"mean": np.full(4, lie), "steps": np.asarray(2**62, np.int64)}
    mean = combined([*honest, liar], norm_band=1.0)
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
        g = combined([delta(1), delta(2)])["w"]
        momentum = 0.7 * momentum + g
        master = master - 0.7 * (g + 0.7 * momentum)
        published = form().decode(form().unpack(made.difference))
        np.testing.assert_array_equal(made.version["w"], theta["w"] + published["w"])
        theta, state = made.version, made.state
        np.testing.assert_allclose(state.masters["w"], master, atol=1e-5)
    gap = np.abs(state.masters["w"] - theta["w"]).max()
    assert 0 < gap < 0.01, "hosts follow the masters; what int4 rounds away is not lost"
    assert theta["steps"] == 100 + 5 * 6, "rint((-6 - 5) / 2) is -6: half to even"
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


@pytest.mark.parametrize("rule", RULES)
def test_a_delta_of_another_size_is_refused(rule):
    with pytest.raises(EncodingError):
        combined_delta([b"short"], [1.0], form(), OuterStep(combination=rule))


@settings(max_examples=30, deadline=None)
@given(
    st.permutations(range(4)),
    st.sampled_from(["fp32", "int8", "int4", "2bit"]),
    st.sampled_from(RULES),
)
def test_the_order_of_deltas_matters_only_in_the_last_bits(order, codec, rule):
    """Float sums depend on it: that is why the log keeps the order."""
    straight = combined([delta(n) for n in range(4)], codec=codec, combination=rule)
    shuffled = combined([delta(n) for n in order], codec=codec, combination=rule)
    np.testing.assert_allclose(straight["w"], shuffled["w"], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 33, 100])
@pytest.mark.parametrize("codec", ["fp32", "int4"])
def test_median_and_trimmed_mean_are_numpys_to_the_bit(count, codec):
    deltas = [delta(seed) for seed in range(count)]
    decoded = [form(codec).decode(data) for data in encoded(*deltas, codec=codec)]
    left_out = trimmed_count(count, 0.2)
    for name in ("w", "b"):
        stack = np.stack([one[name] for one in decoded])
        median = combined(deltas, codec=codec, combination="median")[name]
        np.testing.assert_array_equal(median, np.median(stack, axis=0))
        kept = np.sort(stack, axis=0)[left_out : count - left_out]
        trimmed = combined(deltas, codec=codec, combination="trimmed_mean")[name]
        np.testing.assert_array_equal(trimmed, kept.mean(axis=0, dtype=np.float32))


@pytest.mark.parametrize(("count", "fraction", "left_out"), [
    (16, 0.2, 4), (10, 0.2, 2), (30, 0.1, 3), (4, 0.2, 1), (2, 0.2, 0), (1, 0.4, 0), (3, 0.49, 1),
    (16, 0.0, 0),
])  # fmt: skip
def test_at_least_the_fraction_is_trimmed_and_something_is_left(count, fraction, left_out):
    assert trimmed_count(count, fraction) == left_out


def test_centred_clipping_is_the_formula():
    deltas = [*map(delta, range(5)), delta(9, size=1.0)]
    rows = np.stack([np.concatenate([d["w"].ravel(), d["b"]]) for d in deltas]).astype(np.float64)
    weights = np.arange(1.0, 7.0)
    v = np.median(rows, axis=0)
    radius = 1.5 * np.median(np.linalg.norm(rows - v, axis=1))
    for _ in range(4):
        norms = np.linalg.norm(rows - v, axis=1)
        shares = weights / weights.sum() * np.minimum(1, radius / norms)
        v = v + (shares[:, None] * (rows - v)).sum(axis=0)
    rule = {"clipping_radius": 1.5, "clipping_iterations": 4, "combination": "centred_clipping"}
    found = combined(deltas, weights, "fp32", **rule)
    np.testing.assert_allclose(
        np.concatenate([found["w"].ravel(), found["b"]]), v, rtol=1e-4, atol=1e-8
    )


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "centred_clipping"])
@pytest.mark.parametrize("lie", [100.0, -100.0])
def test_three_of_sixteen_wrong_deltas_move_a_robust_rule_by_no_more_than_honest_ones(rule, lie):
    honest = [delta(seed) for seed in range(13)]
    liars = [{**delta(99), "w": np.full((70, 3), lie, np.float32)} for _ in range(3)]
    found = combined([*honest, *liars], codec="fp32", combination=rule)["w"]
    centre = np.mean([one["w"] for one in honest], axis=0)
    typical = np.median([np.linalg.norm(one["w"] - centre) for one in honest])
    assert np.linalg.norm(found - centre) < typical


@pytest.mark.parametrize("rule", RULES)
def test_zeros_have_no_sign(rule):
    """`minimum` of 0.0 and -0.0 may be either, by the processor; a version's bits must not be."""
    zeros = [{**delta(0), "w": np.full((70, 3), sign, np.float32)} for sign in (0.0, -0.0, -0.0)]
    assert not np.signbit(combined(zeros, codec="fp32", combination=rule)["w"]).any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("codec", ["fp32", "int4", "2bit"])
@pytest.mark.parametrize("block", [16, 17, 256])
def test_a_model_larger_than_a_stretch_is_combined_as_a_whole_and_inputs_stay(rule, codec, block):
    """70,001 numbers are several stretches, the last one short, whatever the codec's block is."""
    spec = TensorSpec(name="w", dtype="float32", shape=[70_001])
    large = ModelSpec(parameters=[spec], buffers=[], initial=MODEL.initial, initial_digest="0" * 64)
    encoding = DeltaFormat(large, codec, block)
    generator = np.random.default_rng(3)
    deltas = [
        encoding.encode({"w": generator.normal(size=70_001).astype(np.float32)}) for _ in range(9)
    ]
    before = [bytes(bytearray(data)) for data in deltas]
    views = [memoryview(data) for data in deltas]
    outer = OuterStep(combination=rule)
    found = combined_delta(views, [1.0] * 9, encoding, outer)["w"]
    assert deltas == before
    stack = np.stack([encoding.decode(data)["w"] for data in deltas])
    centre = np.median(stack, axis=0)
    expected = {
        "mean": stack.mean(axis=0),
        "median": centre,
        "trimmed_mean": np.sort(stack, axis=0)[2:-2].mean(axis=0),
    }
    if rule in expected:
        np.testing.assert_allclose(found, expected[rule], rtol=1e-5, atol=1e-6)
    assert (
        np.linalg.norm(found - stack.mean(axis=0))
        <= np.linalg.norm(centre - stack.mean(axis=0)) * 1.001
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_an_auditor_who_reads_only_the_protocol_gets_the_same_bits(rule, count):
    deltas = [delta(seed, size=0.01 if seed else 1.0) for seed in range(count)]
    weights = [float(1 + seed % 3) for seed in range(count)]
    outer = msgspec.to_builtins(OuterStep(combination=rule))
    public = {"model": msgspec.to_builtins(MODEL), "codec": {"block": 16}, "outer": outer}
    rows = [recompute.decoded(data, public, "int4") for data in encoded(*deltas)]
    expected = recompute.combined(rows, weights, public)
    found = combined(deltas, weights, combination=rule)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.dtype == expected[name].dtype
