"""Clip and noise: what no unit can exceed, and what the noise is."""

from __future__ import annotations

import hashlib
import statistics

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_coordinator.aggregation.noise import NoiseKey, Normals, _quantile
from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_coordinator.aggregation.private import private_delta
from pleb_coordinator.core.records import VersionInput
from pleb_shared.errors import EncodingError, InputError
from pleb_shared.protocol.project import Codec, ModelSpec, Privacy, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.format import training_format
from tests.conformance.example_metadata import example_metadata

SHAPES = {"w": [70, 3], "b": [5]}
SEED = b"7" * 32
UNITS, BATCH, STEPS = 4, 4, 5
PLANNED = float(BATCH * STEPS)


def metadata(*, clip_norm=1.0, noise_multiplier=1.0, codec="fp32", units=UNITS):
    before = example_metadata("2" * 64)
    replace = msgspec.structs.replace
    return replace(
        before,
        model=ModelSpec(
            parameters=[TensorSpec(name=n, dtype="float32", shape=s) for n, s in SHAPES.items()],
            buffers=[],
            initial=Blob(digest="0" * 64, size=0),
            initial_digest="0" * 64,
        ),
        codec=Codec(up=codec, down=codec, block=16),
        training=replace(before.training, batch_examples=BATCH, local_steps=STEPS),
        round=replace(before.round, units=units, quorum=units),
        privacy=Privacy(clip_norm=clip_norm, noise_multiplier=noise_multiplier),
    )


def delta(seed, size=0.01):
    generator = np.random.default_rng(seed)
    return {n: (generator.normal(size=s) * size).astype(np.float32) for n, s in SHAPES.items()}


def encoded(described, *deltas):
    return [training_format(described).encode(one) for one in deltas]


def combined(described, deltas, weights=None, seed=SEED):
    data = encoded(described, *deltas)
    weights = [PLANNED] * len(data) if weights is None else weights
    return private_delta(data, weights, described, described.privacy, seed)


def flat(tensors):
    return np.concatenate([tensors[name].reshape(-1) for name in SHAPES]).astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.floats(0, 1e30), min_size=1, max_size=6),
    weights=st.lists(st.floats(0, 1e12), min_size=6, max_size=6),
    clip_norm=st.floats(1e-3, 1e3),
    which=st.integers(0, 5),
    other=st.floats(0, 1e30),
    codec=st.sampled_from(["fp32", "int8"]),
)
def test_no_unit_moves_the_sum_by_more_than_the_clip(
    sizes, weights, clip_norm, which, other, codec
):
    """Whatever it sends, whatever it weighs, and whatever the others are.

    With and without the unit; and, as the account has it, with another delta in its place.
    """
    sizes = [min(size, 1e4) if codec == "int8" else size for size in sizes]
    described = metadata(clip_norm=clip_norm, noise_multiplier=1e-3, codec=codec)
    deltas = [delta(k, size) for k, size in enumerate(sizes)]
    which, used = which % len(deltas), weights[: len(deltas)]
    whole = flat(combined(described, deltas, used))
    without = flat(combined(described, [*deltas[:which], delta(9, 0), *deltas[which + 1 :]], used))
    other = min(other, 1e4) if codec == "int8" else other
    replaced = [*deltas[:which], delta(99, other), *deltas[which + 1 :]]
    exchanged = flat(combined(described, replaced, used))
    # g is kept in float32: each of its numbers may be rounded by half a unit in the last place
    rounding = 2 * UNITS * np.linalg.norm(np.spacing(whole.astype(np.float32)).astype(np.float64))
    assert UNITS * np.linalg.norm(whole - without) <= clip_norm * (1 + 1e-9) + rounding
    assert UNITS * np.linalg.norm(whole - exchanged) <= 2 * clip_norm * (1 + 1e-9) + rounding


def test_the_mean_is_the_formula_and_others_do_not_change_what_a_unit_adds():
    described = metadata(clip_norm=0.5, noise_multiplier=0.25)
    deltas = [delta(1), delta(2), delta(3, size=1.0)]
    weights = [PLANNED, PLANNED / 2, 3 * PLANNED]
    found = flat(combined(described, deltas, weights))
    norms = [np.linalg.norm(flat(one)) for one in deltas]
    assert norms[0] < 0.5 < norms[2]
    shares = [1, 0.5, 0.5 / norms[2]]
    total = sum(flat(one) * share for one, share in zip(deltas, shares, strict=True))
    noise = Normals(SEED).next(len(total)) * 0.5 * 0.25
    np.testing.assert_allclose(found, (total + noise) / UNITS, rtol=1e-6, atol=1e-9)


def test_what_counts_is_the_norm_after_the_codec():
    """A host's bytes decode to more than what it rounded: the cut goes by what they decode to."""
    described = metadata(clip_norm=0.01, noise_multiplier=1e-3, codec="int4")
    form = training_format(described)
    one = encoded(described, delta(1, size=1.0))[0]
    alone = flat(private_delta([one], [PLANNED], described, described.privacy, SEED))
    bare = alone - Normals(SEED).next(len(alone)) * 1e-5 / UNITS
    decoded = flat(form.decode(one))
    np.testing.assert_allclose(UNITS * bare, decoded * 0.01 / np.linalg.norm(decoded), atol=1e-8)


def test_bytes_that_are_no_numbers_make_no_version():
    described = metadata()
    bad = delta(1)
    bad["b"][2] = np.nan
    numbers = np.concatenate([bad["w"].reshape(-1), bad["b"]])
    data = [numbers.tobytes(), *encoded(described, delta(2))]
    theta = delta(5, size=1.0)
    state = OuterState.initial(theta, described.model)
    deltas = [(one, PLANNED) for one in data]
    with pytest.raises(EncodingError):
        next_version(theta, state, deltas, described, warm_start=False, noise=SEED)


def test_the_noise_is_in_the_masters_before_the_residue_is_formed():
    """So what the codec leaves over, and later rounds add, is made of noised numbers, too."""
    described = metadata(codec="int4", noise_multiplier=2.0)
    theta = delta(5, size=1.0)
    state = OuterState.initial(theta, described.model)
    data = encoded(described, delta(1), delta(2))
    made = next_version(
        theta, state, [(one, PLANNED) for one in data], described, warm_start=False, noise=SEED
    )
    g = combined(described, [delta(1), delta(2)])
    rate, m = np.float32(described.outer.learning_rate), np.float32(described.outer.momentum)
    for name in SHAPES:
        np.testing.assert_array_equal(made.state.momentum[name], g[name])
        master = theta[name] - rate * (g[name] + m * g[name])
        np.testing.assert_array_equal(made.state.masters[name], master)


def test_without_a_seed_there_is_no_version():
    described = metadata()
    theta = delta(5)
    state = OuterState.initial(theta, described.model)
    deltas = [(encoded(described, delta(1))[0], PLANNED)]
    with pytest.raises(InputError, match="Restore the file secret"):
        next_version(theta, state, deltas, described, warm_start=False)


def test_noise_is_the_normal_quantile_of_the_stream():
    found = Normals(SEED).next(200_000)
    ordered = np.sort(found)
    exact = statistics.NormalDist()
    assert abs(found.mean()) < 0.01
    assert abs(found.std() - 1) < 0.01
    distances = [abs((k + 1) / len(ordered) - exact.cdf(float(x))) for k, x in enumerate(ordered)]
    assert max(distances) < 1.95 / np.sqrt(len(ordered)), "Kolmogorov and Smirnov, at .1 %"
    again = Normals(SEED)
    pieces = np.concatenate([again.next(n) for n in (1, 7, 40_000, 159_992)])
    np.testing.assert_array_equal(pieces, found, "however it is taken")
    assert not np.array_equal(Normals(b"8" * 32).next(100), found[:100])


def test_the_quantile_is_the_standard_librarys():
    near_ends = [0, 1, 5, 2**20, 2**40, 2**51 - 1, 2**51, 2**52 - 2, 2**52 - 1]
    h = np.array([*near_ends, *range(2**45, 2**52, 2**46 + 12_345)], np.uint64)
    exact = [statistics.NormalDist().inv_cdf((int(x) + 0.5) / 2**52) for x in h]
    np.testing.assert_allclose(_quantile(h), exact, rtol=1e-9, atol=1e-15)
    assert _quantile(np.array([0], np.uint64)) == -_quantile(np.array([2**52 - 1], np.uint64))


def test_the_noise_is_the_same_bits_everywhere():
    """Golden: versions recompute after an update, and on another machine."""
    numbers = Normals(bytes(range(32))).next(1000)
    assert hashlib.sha256(numbers.astype("<f8").tobytes()).hexdigest() == GOLDEN


GOLDEN = "09967959b15a1a9af50a20b420d2a159aec1fbdd8c1906154f5d47a23996889d"


def test_a_seed_hides_one_sum_alone():
    """Two sums under one seed would differ by what it should hide."""
    described, key = metadata(), NoiseKey(b"s" * 32)
    inputs = (VersionInput(unit=1, assignment=2, digest="d" * 64, weight=4.0),)
    seed = key.seed(described, 3, inputs)
    replace = msgspec.structs.replace
    others = [
        key.seed(described, 4, inputs),
        key.seed(described, 3, (*inputs, replace(inputs[0], assignment=3))),
        key.seed(described, 3, (replace(inputs[0], digest="e" * 64),)),
        key.seed(described, 3, (replace(inputs[0], weight=2.0),)),
        key.seed(metadata(clip_norm=2.0), 3, inputs),
        key.seed(metadata(noise_multiplier=2.0), 3, inputs),
        key.seed(metadata(units=5), 3, inputs),
        key.seed(replace(described, epoch=1), 3, inputs),
        key.seed(replace(described, project="another"), 3, inputs),
        NoiseKey(b"t" * 32).seed(described, 3, inputs),
    ]
    assert len({seed, *others}) == len(others) + 1
    assert key.seed(described, 3, inputs) == seed
    assert key.seed(replace(described, privacy=None), 3, inputs) is None
