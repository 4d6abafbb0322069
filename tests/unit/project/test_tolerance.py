"""The tolerance: between what honest runs differ by and what 1 % of noise makes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_project.check.tolerance import choose_tolerance, encoded_distances, noise_distance
from pleb_shared.protocol.project import ModelSpec, TensorSpec
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.format import DeltaFormat

MODEL = ModelSpec(
    parameters=[TensorSpec(name="w", dtype="float32", shape=[64, 64])],
    buffers=[],
    initial=Blob(digest="0" * 64, size=0),
    initial_digest="0" * 64,
)
DELTA = {"w": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)}


@pytest.mark.parametrize("codec", ["fp32", "int8", "int4"])
def test_one_percent_of_noise_is_seen_through_every_codec(codec):
    assert 0.005 < noise_distance(DELTA, DeltaFormat(MODEL, codec, 256)) < 0.2


def test_equal_deltas_are_no_distance_apart():
    assert encoded_distances(DELTA, DELTA, DeltaFormat(MODEL, "int4", 256)) == {"w": 0.0}


@given(honest=st.floats(0, 1), noise=st.floats(1e-4, 1), later=st.floats(0, 2))
def test_noise_never_passes(honest, noise, later):
    chosen = choose_tolerance(honest, noise, later)
    assert 0 < chosen.tolerance <= chosen.ceiling < noise
    assert chosen.separates == (honest < chosen.ceiling)
    if not chosen.tight:
        assert chosen.tolerance >= 4 * max(honest, later)


def test_what_honest_runs_differ_by_later_raises_the_tolerance_but_does_not_refuse_the_project():
    assert choose_tolerance(1e-4, 0.06, 1e-4).tolerance == pytest.approx(0.015)
    assert choose_tolerance(1e-4, 0.06, 5e-3).tolerance == pytest.approx(0.02)
    drifting = choose_tolerance(1e-4, 0.06, 0.2)
    assert drifting.tolerance == drifting.ceiling
    assert drifting.separates
    assert drifting.drifts
    assert not choose_tolerance(0.05, 0.06, 0.0).separates
