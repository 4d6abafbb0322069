"""Signals that a result may be wrong: what raises them, and what honest results look like."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pleb_coordinator.core.suspicion import (
    MAD_TO_DEVIATION,
    SignalKind,
    Timing,
    Traits,
    features_of,
    outlying,
    signals,
)
from pleb_shared.protocol.project import ModelSpec, TensorSpec
from pleb_shared.protocol.unit import Blob

SHAPES = {"a.weight": [64, 64], "a.bias": [64], "b.weight": [10, 64]}
MODEL = ModelSpec(
    parameters=[TensorSpec(name=n, dtype="float32", shape=s) for n, s in SHAPES.items()],
    buffers=[],
    initial=Blob(digest="0" * 64, size=0),
    initial_digest="0" * 64,
)
KEY = 7
COMMON = {n: np.random.default_rng(1).normal(size=s) for n, s in SHAPES.items()}


def delta(seed):
    """Half of an honest delta is common to all units of a round, the rest is its own."""
    rng = np.random.default_rng(100 + seed)
    scale = 0.01 * np.exp(rng.normal() * 0.05)
    return {n: (scale * (COMMON[n] + rng.normal(size=s))).astype("f4") for n, s in SHAPES.items()}


def traits(unit, tensors, *, version=5, **changes):
    found = Traits(
        unit=unit,
        version=version,
        digest=f"{unit:064x}",
        **msgspec.structs.asdict(features_of(tensors, MODEL, KEY)),
        loss_first=1.0 + 0.01 * (unit % 7),
        loss_last=0.5 + 0.01 * (unit % 5),
    )
    return msgspec.structs.replace(found, **changes)


RECENT = [traits(number, delta(number)) for number in range(24)]


def kinds(result, recent=RECENT, timing=None):
    return {signal.kind for signal in signals(result, recent, timing)}


def times(tensors, factor):
    return {name: np.float32(factor) * array for name, array in tensors.items()}


@pytest.mark.parametrize("seed", range(200, 240))
def test_an_honest_result_raises_nothing(seed):
    assert kinds(traits(seed, delta(seed))) == set()


def noise(scale):
    rng = np.random.default_rng(9)
    return {n: (scale * rng.normal(size=s)).astype("f4") for n, s in SHAPES.items()}


LIES = {
    "zero": (times(delta(99), 0), SignalKind.NORM),
    "scaled": (times(delta(99), 3), SignalKind.NORM),
    "shrunk": (times(delta(99), 0.2), SignalKind.NORM),
    "flipped": (times(delta(99), -1), SignalKind.DIRECTION),
    "random": (noise(0.014), SignalKind.DIRECTION),
    "one tensor": ({**delta(99), "a.bias": delta(99)["a.bias"] * 10}, SignalKind.PROFILE),
    "another unit's": (delta(3), SignalKind.COPY),
    "nearly another unit's": (times(delta(3), 1.1), SignalKind.COPY),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_lies_raise_their_signal(lie):
    tensors, kind = LIES[lie]
    assert kind in kinds(traits(99, tensors))


def test_the_same_bytes_for_two_units_are_a_copy_even_without_a_history():
    first = RECENT[0]
    assert SignalKind.COPY in kinds(traits(99, delta(99), digest=first.digest), [first])


def test_results_of_the_same_unit_are_not_copies_of_one_another():
    assert kinds(traits(3, delta(3))) == set()


def test_claimed_losses_are_compared():
    assert kinds(traits(99, delta(99), loss_first=9.0)) == {SignalKind.LOSS_FIRST}
    assert kinds(traits(99, delta(99), loss_last=1.0)) == {SignalKind.LOSS_LAST}


def test_nothing_but_zeros_is_unusual_while_too_little_is_known():
    few = RECENT[:7]
    assert kinds(traits(99, times(delta(99), -30), loss_first=99.0), few) == set()
    assert kinds(traits(99, times(delta(99), 0)), []) == {SignalKind.NORM}


def test_liars_in_the_history_do_not_hide_one_another():
    liars = [traits(number, times(delta(number), -3)) for number in range(50, 58)]
    assert SignalKind.NORM in kinds(traits(99, times(delta(99), -3)), [*RECENT, *liars])


def test_a_result_that_comes_too_soon_or_claims_too_much_time():
    honest = Timing(steps=20, elapsed_seconds=50, claimed_seconds=40, usual_step_seconds=2)
    result = traits(99, delta(99))
    assert kinds(result, timing=honest) == set()
    hasty = msgspec.structs.replace(honest, elapsed_seconds=10, claimed_seconds=10)
    assert kinds(result, timing=hasty) == {SignalKind.HASTE}
    boaster = msgspec.structs.replace(honest, claimed_seconds=70)
    assert kinds(result, timing=boaster) == {SignalKind.TIME_CLAIMED}
    unknown = msgspec.structs.replace(hasty, usual_step_seconds=None)
    assert kinds(result, timing=unknown) == set()


def test_training_that_moves_on_is_compared_with_its_nearest_versions():
    shrinking = [
        traits(100 * v + n, times(delta(100 * v + n), 0.9**v), version=v)
        for v in range(30)
        for n in range(4)
    ]
    newest = traits(7, times(delta(7), 0.9**29), version=29)
    assert kinds(newest, shrinking) == set()


def test_features_survive_the_store_and_keep_angles():
    a, b = delta(1), delta(2)
    features = features_of(a, MODEL, KEY), features_of(b, MODEL, KEY)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(features[0])) is not None
    flat = [np.concatenate([t[n].ravel() for n in SHAPES]).astype("f8") for t in (a, b)]
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    first, second = (np.frombuffer(f.sketch, "<f2").astype("f8") for f in features)
    assert abs(first @ second - cosine) < 0.1
    assert features[0].norm == pytest.approx(np.linalg.norm(flat[0]))


def alone(array, words):
    """Return the sums [4096] of one tensor of at most 4,096 numbers, each with a random sign."""
    drawn = words.random_raw(-(-array.size // 64)).astype("<u8")
    signs = 1 - 2 * np.unpackbits(drawn.view(np.uint8), count=array.size).astype("f4")
    return np.pad(array.reshape(-1) * signs, (0, 4096 - array.size)).astype("f8")


@pytest.mark.parametrize("count", [1, 3, 400], ids=["one", "few", "more than fit together"])
def test_small_tensors_are_projected_together_as_if_each_were_alone(count):
    rng, sizes = np.random.default_rng(3), [4096, 1, 63, 64, 65, 640]
    shapes = {f"t{i}": [sizes[i % len(sizes)]] for i in range(count)}
    model = msgspec.structs.replace(
        MODEL,
        parameters=[TensorSpec(name=n, dtype="float32", shape=s) for n, s in shapes.items()],
    )
    tensors = {n: rng.normal(size=s).astype("f4") for n, s in shapes.items()}
    words = np.random.Philox(key=KEY)
    expected = np.sum([alone(tensors[name], words) for name in shapes], axis=0)
    expected = (expected / np.linalg.norm(expected)).astype("<f2")
    assert features_of(tensors, model, KEY).sketch == expected.tobytes()


@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [8, 9, 32])
def test_outliers_are_measured_from_numpys_median(count, bad):
    others = np.random.default_rng(count).normal(size=(count, 3))
    if bad is not None:
        others[2, 1] = bad
    with np.errstate(invalid="ignore"):
        middle = np.median(others, axis=0)
        spread = MAD_TO_DEVIATION * np.median(np.abs(others - middle), axis=0)
        expected = (np.ones(3) - middle) / np.maximum(spread, 0.1)
        found = outlying(np.ones(3), others, least=0.1)
    np.testing.assert_array_equal(found, expected)


def test_another_key_gives_another_sketch():
    assert features_of(delta(1), MODEL, 1).sketch != features_of(delta(1), MODEL, 2).sketch


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_numbers_that_are_not_finite_are_a_signal_not_an_error(bad):
    tensors = delta(1)
    tensors["a.bias"][0] = bad
    assert SignalKind.NORM in kinds(traits(99, tensors))


def test_a_norm_that_falls_with_the_learning_rate_is_no_outlier_and_hides_none():
    """At the end of a schedule, norms fall by a third from version to version."""
    falling = [
        traits(100 * v + n, times(delta(100 * v + n), 0.7**v), version=v)
        for v in range(8)
        for n in range(4)
    ]
    assert kinds(traits(7, times(delta(7), 0.7**8), version=8), falling) == set()
    assert kinds(traits(7, times(delta(7), 0.7**5), version=8), falling) == {SignalKind.NORM}


def test_a_result_made_of_the_others_agrees_with_them_too_well():
    """A little is enough (ALIE): the mean, shifted by less than honest results differ."""
    others = [delta(n) for n in range(6)]
    made = {
        n: np.mean([d[n] for d in others], axis=0) - 0.5 * np.std([d[n] for d in others], axis=0)
        for n in SHAPES
    }
    assert SignalKind.DIRECTION in kinds(traits(99, made))
