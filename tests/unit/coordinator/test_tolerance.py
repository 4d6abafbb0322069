"""The tolerance: when results agree, and what it follows."""

from __future__ import annotations

import math

import pytest

from pleb_coordinator.core.tolerance import Closeness, compare


@pytest.mark.parametrize(
    ("distance", "closeness"),
    [
        (0.0, Closeness.AGREE),
        (0.01, Closeness.AGREE),
        (0.0101, Closeness.NEAR),
        (0.03, Closeness.NEAR),
        (0.0301, Closeness.FAR),
        (math.inf, Closeness.FAR),
        (math.nan, Closeness.FAR),
    ],
)
def test_a_mismatch_up_to_three_tolerances_is_a_near_miss(distance, closeness):
    assert compare(distance, 0.01) is closeness
