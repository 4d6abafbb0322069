"""The moving average of versions, which is computed when a model is exported."""

from __future__ import annotations

import numpy as np
import pytest

from pleb_shared.tensors.average import first_averaged, moving_average


def version(number: float):
    return {
        "w": np.full((2, 3), number, np.float32),
        "running": np.full(3, number, np.float64),
        "count": np.asarray(number, np.int64),
    }


def test_the_average_by_hand():
    found = moving_average([version(n) for n in (0, 1, 5)], 0.9)
    assert found["w"] == pytest.approx(np.full((2, 3), 0.9 * 0.1 + 0.1 * 5))
    assert found["running"] == pytest.approx(np.full(3, 0.59))
    assert found["w"].dtype == np.float32
    assert int(found["count"]) == 5, "whole numbers are the last version's"


def test_one_version_is_its_own_average():
    found = moving_average([version(3)], 0.5)
    assert all(np.array_equal(found[name], array) for name, array in version(3).items())


def test_equal_versions_give_the_same_bits():
    same = {"w": np.random.default_rng(0).normal(size=50).astype(np.float32)}
    assert np.array_equal(moving_average([same] * 20, 0.9)["w"], same["w"])


@pytest.mark.parametrize(("newest", "decay", "first"), [(5, 0.9, 0), (100, 0.9, 34), (9, 0.0, 9)])
def test_what_is_left_out_weighs_nothing(newest, decay, first):
    assert first_averaged(newest, decay) == first
