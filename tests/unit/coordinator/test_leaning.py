"""Results that lean like a proven lie or like one another, among honest ones that do neither."""

from __future__ import annotations

import numpy as np
import pytest

from pleb_coordinator.core.leaning import Lie, as_a_lie, as_one_another, lie_of
from pleb_coordinator.core.suspicion import Features, SignalKind, Traits

NUMBERS = 2000
PER_VERSION = 32


def direction(*seed):
    found = np.random.default_rng(seed).normal(size=NUMBERS)
    return found / np.linalg.norm(found)


PUSH = direction(1, 1)
"""What liars want to move the model by."""


def honest(unit):
    """Two honest deltas of a version have a cosine of .25."""
    length = np.exp(0.1 * np.random.default_rng((4, unit)).normal())
    own = np.sqrt(0.75) * direction(3, unit)
    return length * (0.5 * direction(2, unit // PER_VERSION) + own)


def pushed(unit):
    right = honest(unit)
    return right + 0.33 * np.linalg.norm(right) * PUSH


def halved(unit):
    return 0.5 * honest(unit) + 0.15 * direction(5, unit)


def features(delta):
    norm = float(np.linalg.norm(delta))
    sketch = np.zeros(4096)
    sketch[:NUMBERS] = delta / norm
    return Features(norm=norm, profile=(norm,), sketch=sketch.astype("<f2").tobytes())


def traits(unit, delta):
    found = features(delta)
    return Traits(
        norm=found.norm,
        profile=found.profile,
        sketch=found.sketch,
        unit=unit,
        version=unit // PER_VERSION,
        digest=f"{unit:064x}",
    )


def results(versions, lying=lambda _: False, lie=pushed):
    return [
        traits(unit, (lie if lying(unit) else honest)(unit))
        for unit in range(versions * PER_VERSION)
    ]


def proven(unit, lie=pushed):
    found = lie_of(unit, unit // PER_VERSION, features(lie(unit)), features(honest(unit)))
    assert found is not None
    return found


def newest(found, version):
    return [result for result in found if result.version == version]


@pytest.mark.parametrize("lie", [pushed, halved])
def test_what_leans_or_is_as_short_as_a_proven_lie_is_found_and_nothing_else(lie):
    lies = {unit for unit in range(4 * PER_VERSION) if unit % 11 == 3}
    found = results(4, lambda unit: unit in lies, lie)
    signals = as_a_lie(newest(found, 3), found, [proven(3, lie)])
    assert set(signals) == {unit for unit in lies if unit >= 3 * PER_VERSION}
    assert {signal.kind for signal in signals.values()} == {SignalKind.LIE}
    assert all(signal.reason.values == {"unit": 3} for signal in signals.values())


def test_a_result_is_compared_with_a_lie_as_soon_as_its_version_has_three_others():
    first = 3 * PER_VERSION
    before = results(3) + [traits(unit, honest(unit)) for unit in range(first, first + 3)]
    unit = first + 3
    assert as_a_lie([traits(unit, honest(unit))], before, [proven(5)]) == {}
    assert set(as_a_lie([traits(unit, pushed(unit))], before, [proven(5)])) == {unit}
    assert as_a_lie([traits(unit, pushed(unit))], before[:-1], [proven(5)]) == {}


def test_results_lean_like_no_lie_that_is_a_multiple_of_one_of_their_version():
    found = results(4)
    lie = proven(97, lambda unit: 3 * honest(unit))
    for count in range(1, 12):
        judged = [result for result in newest(found, 3) if result.unit != 97][:count]
        assert as_a_lie(judged[-1:], found[: 3 * PER_VERSION] + judged, [lie]) == {}


def test_honest_results_lean_like_no_lie():
    found = results(8)
    assert as_a_lie(found, found, [proven(5)]) == {}
    # lengths are known less well than directions: four deviations happen now and then
    assert len(as_a_lie(found, found, [proven(40, halved)])) <= 0.005 * len(found)


def test_a_lie_about_what_honest_results_of_a_version_share_singles_none_out():
    shared = Lie(1, 3, 0.0, features(direction(2, 3)).sketch)
    found = results(4)
    assert as_a_lie(newest(found, 3), found, [shared]) == {}


def test_those_that_lie_alike_are_found_before_anything_is_proven():
    lies = {unit for unit in range(2 * PER_VERSION, 4 * PER_VERSION) if unit % 8 == 3}
    found = results(4, lambda unit: unit in lies)
    signals = as_one_another(newest(found, 3), found)
    assert set(signals) <= lies
    assert len(signals) >= 3
    assert {signal.kind for signal in signals.values()} == {SignalKind.ALIKE}


def test_honest_results_are_not_alike():
    found = results(12)
    for version in range(12):
        known = [result for result in found if result.version <= version]
        assert as_one_another(newest(known, version), known) == {}


def test_few_results_say_nothing():
    found = results(4)[:7]
    assert as_a_lie(found, found, [proven(5)]) == {}
    assert as_one_another(found, found) == {}


@pytest.mark.parametrize("norm", [0.0, np.inf, np.nan])
def test_a_lie_without_a_direction_is_not_remembered(norm):
    wrong = Features(norm=norm, profile=(norm,), sketch=bytes(8192))
    assert lie_of(1, 1, wrong, features(honest(1))) is None
    assert lie_of(1, 1, features(honest(1)), features(honest(1))) is None
