"""Draws: golden digests pin every bit; the rest shows that they are what they claim."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_shared.training import draws as drawn
from pleb_shared.training.draws import (
    Form,
    NodeDraws,
    Purpose,
    batch_indices,
    exponentials,
    integers,
    keep_mask,
    normals,
    permutation,
    raw_words,
    uniforms,
    window_starts,
)


def digest(array):
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


def test_words_are_philox_4x64_with_this_key_and_counter():
    words = raw_words(1, Purpose.ORDER, 2, 3, 4)
    assert [f"{int(word):016x}" for word in words] == [
        "b328c982277bd84a",
        "972f9cd4ca75dbe9",
        "03cc2fb109ac9bb3",
        "5165bc3f5300835c",
    ]


def test_golden_draws():
    assert digest(batch_indices(7, 3, 50, 120)) == "591892a0bef499d7"
    assert digest(window_starts(7, 3, 50, 1000)) == "16c935d4ee668ba2"
    assert digest(keep_mask(7, 3, 11, (5, 7), 0.1)) == "fba517029b69fc08"
    assert digest(uniforms(7, 3, 11, 1001, 24)) == "a715bf4f4e03c289"
    assert digest(uniforms(7, 3, 11, 1001, 32)) == "a6ef2faf83f1c97f"
    assert digest(integers(7, 3, 11, 1001, -5, 9)) == "bdb400f556b5033e"
    assert digest(permutation(7, 3, 11, 1001)) == "dc908562642aad6d"
    assert digest(exponentials(7, 3, 11, 20_001)) == "a9e3a16619f5819c"
    assert digest(normals(7, 3, 11, 20_001)) == "516df2e3dbfc5a76"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), batch=st.integers(1, 40), examples=st.integers(1, 60))
def test_batches_run_through_all_examples_before_any_comes_again(seed, batch, examples):
    steps = -(-3 * examples // batch)
    stream = np.concatenate([batch_indices(seed, s, batch, examples) for s in range(steps)])
    for start in range(0, 3 * examples, examples):
        assert sorted(stream[start : start + examples]) == list(range(examples))


@given(seed=st.integers(0, 2**63 - 1), windows=st.integers(1, 2**32 - 1))
def test_windows_lie_inside(seed, windows):
    starts = window_starts(seed, 0, 20, windows)
    assert starts.dtype == np.int64
    assert starts.min() >= 0
    assert starts.max() < windows


def test_windows_are_spread_evenly():
    counts = np.bincount(window_starts(0, 0, 100_000, 10), minlength=10)
    assert np.abs(counts - 10_000).max() < 500


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_a_mask_drops_its_share_and_keeps_the_mean(probability):
    mask = keep_mask(0, 0, 0, (300, 333), probability)
    assert np.mean(mask == 0) == pytest.approx(probability, abs=0.01)
    assert set(np.unique(mask)) == {0, np.float32(1 / (1 - probability))}


def test_a_mask_that_drops_all_is_zero():
    assert (keep_mask(0, 0, 0, (9,), 1.0) == 0).all()


def test_another_step_node_or_seed_draws_otherwise():
    masks = {
        digest(keep_mask(seed, step, node, (64,), 0.5))
        for seed in (0, 1)
        for step in (0, 1)
        for node in (0, 1)
    }
    assert len(masks) == 8


def test_masks_have_the_form_of_what_they_drop():
    like = torch.zeros(3, 4, dtype=torch.float64)
    mask = NodeDraws(0, 0).dropout(like, 0.5, 1)
    assert mask.dtype == torch.float64
    assert mask.shape == like.shape


COUNT = 200_000


def test_normal_numbers_are_the_quantiles_of_their_words(monkeypatch):
    """Against torch's quantile, at the ends, the middle, where the formulas meet, and elsewhere."""
    ends = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, int(0.075 * 2**32), int(0.925 * 2**32)]
    random = raw_words(1, Purpose.NODE, 1, 1, COUNT).view("<u4")
    halves = np.concatenate([np.array(ends, np.uint32), random])
    monkeypatch.setattr(drawn, "_halves", lambda *_: halves)
    p = torch.from_numpy((halves + 0.5) / 2**32)
    found = normals(0, 0, 0, len(halves))
    assert np.abs(found - torch.special.ndtri(p).numpy()).max() < 1e-6
    assert found[0] == -found[4]
    assert found[2] == -found[3] != 0
    assert np.abs(exponentials(0, 0, 0, len(halves)) + np.log(p.numpy())).max() < 1e-14


def test_moments_and_ranges():
    normal = normals(0, 0, 0, COUNT)
    moments = [float(np.mean(normal**k)) for k in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)
    exponential = exponentials(0, 0, 1, COUNT)
    assert exponential.min() > 0
    assert exponential.mean() == pytest.approx(1, abs=0.01)
    assert np.bincount(integers(0, 0, 2, COUNT, 0, 10)) == pytest.approx(COUNT / 10, rel=0.05)
    assert sorted(permutation(0, 0, 3, 500)) == list(range(500))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_uniform_numbers_stay_below_one_in_every_type(dtype):
    found = NodeDraws(0, 0).uniform(Form((COUNT,), dtype, torch.device("cpu")), 1)
    assert found.dtype == dtype
    assert found.min() >= 0
    assert found.max() < 1
    assert float(found.double().mean()) == pytest.approx(0.5, abs=0.01)
