"""When the holdout asks for a step back: never for noise, never in a loop."""

from __future__ import annotations

import numpy as np
import pytest

from pleb_coordinator.core.holdout import Point, last_good, points_of, version_to_restore
from pleb_coordinator.core.records import Evaluation, RestoreCause, VersionRestore
from pleb_shared.protocol.project import Target


def points(*values, first=0):
    return [Point(first + i, value) for i, value in enumerate(values)]


def restore(number, restores):
    return VersionRestore(number, restores, RestoreCause.HOLDOUT, 0.0)


def learning(versions, noise=0.02, seed=0, start=2.3, end=0.4):
    """A loss that falls as losses do."""
    generator = np.random.default_rng(seed)
    curve = end + (start - end) * np.exp(-np.arange(versions) / 8)
    return points(*(curve + generator.normal(size=versions) * noise))


def test_a_poisoned_model_goes_back_to_the_last_version_before_the_poison():
    good = learning(30)
    poisoned = points(2.0, 2.2, 2.5, first=30)
    assert version_to_restore([*good, *poisoned[:2]], [], 0.5) is None, "two may be noise"
    found = version_to_restore([*good, *poisoned], [], 0.5)
    assert found is not None
    assert 25 <= found < 30
    assert version_to_restore([*good, *poisoned], [], 0.0) is None, "switched off"


def test_one_bad_evaluation_between_good_ones_is_noise():
    line = learning(30)
    for bad in range(5, 30, 2):
        line[bad] = Point(bad, 9.0)
    for length in range(1, 31):
        assert version_to_restore(line[:length], [], 0.5) is None


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.3])
def test_honest_training_is_never_taken_back(seed, noise):
    line = learning(60, noise=noise, seed=seed)
    for length in range(1, 61):
        assert version_to_restore(line[:length], [], 0.5) is None


@pytest.mark.parametrize("seed", range(10))
def test_a_model_that_learns_nothing_is_not_taken_back(seed):
    """There is no gain to lose: the first versions of a warm-up, or a wrong learning rate."""
    walk = np.cumsum(np.random.default_rng(seed).normal(size=60)) * 0.001 + 2.3
    for length in range(1, 61):
        assert version_to_restore(points(*walk[:length]), [], 0.5) is None


def test_overfitting_within_what_is_allowed_is_left_alone():
    falls = learning(30, noise=0.0)
    rises = points(*np.linspace(0.45, 1.2, 30), first=30)
    assert version_to_restore([*falls, *rises], [], 0.5) is None


def test_numbers_that_are_not_finite_are_the_worst():
    good = learning(20)
    lost = [Point(20 + i, float("inf")) for i in range(3)]
    found = version_to_restore([*good, *lost], [], 0.5)
    assert found is not None
    assert 15 <= found < 20


def test_a_restore_needs_new_evidence_and_each_in_vain_twice_as_much():
    good = learning(30)
    bad = points(*[2.3] * 40, first=30)
    line, waited, since = list(good), [], 0
    restores: list[VersionRestore] = []
    for step, point in enumerate(bad):
        line.append(Point(point.version + len(restores), point.value))
        since += 1
        found = version_to_restore(line, restores, 0.5)
        if found is not None:
            number = line[-1].version + 1
            restores.append(restore(number, found))
            line = [p for p in line if p.version <= found] + [Point(number, good[-1].value)]
            waited.append(since)
            since = 0
        assert step < 39 or waited == [3, 6, 12]


def test_a_new_best_makes_the_watch_quick_again():
    line = [*learning(20), Point(24, 0.6), *points(*np.linspace(0.5, 0.2, 10), first=25)]
    poisoned = [*line, *points(2.0, 2.0, 2.0, first=35)]
    found = version_to_restore(poisoned, [restore(24, 19)], 0.5)
    assert found is not None
    assert 30 <= found < 35


def test_what_was_taken_back_is_no_evidence():
    evaluations = [
        Evaluation(1, 0, version, 0, {"loss": value, "accuracy": 1 - value / 3}, 8, 0.0)
        for version, value in enumerate([2.0, 1.5, 1.0, 0.8, 0.7, 2.5, 2.6, 2.7, 0.7])
    ]
    line = points_of(evaluations, [restore(8, 4)], None)
    assert [p.version for p in line] == [0, 1, 2, 3, 4, 8]
    accuracy = Target(metric="accuracy", value=0.9)
    rising = points_of(evaluations, [restore(8, 4)], accuracy)
    assert [p.value for p in rising] == sorted((p.value for p in rising), reverse=True)


def test_the_last_good_version_is_before_the_newest_evaluated_one():
    assert last_good(points(2.0, 1.0, 0.5, 0.4, 3.0, 3.1), 0.5) == 3
    assert last_good(points(2.0, 1.0, 0.5), 0.5) == 1
    assert last_good(points(2.0), 0.5) is None
    assert last_good([], 0.5) is None
