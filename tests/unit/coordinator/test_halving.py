"""Which trials of a sweep go on, wait, or stop."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest

from pleb_coordinator.core.halving import Trial, halved
from pleb_coordinator.core.holdout import Point
from pleb_shared.protocol.project import Family, Rung
from pleb_shared.protocol.reasons import ReasonCode

NAMES = ["s-1", "s-2", "s-3", "s-4"]
SWEEP = Family(
    name="s",
    kind="sweep",
    members=NAMES,
    rungs=[Rung(version=2, keep=2), Rung(version=4, keep=1)],
)
LOSSES = {"s-1": 3.0, "s-2": 1.0, "s-3": 2.0, "s-4": 4.0}


def trial(name, version, *, evaluated=None, ended=False, loss=None):
    """Return a trial with the same loss in each version up to the last evaluated one."""
    last = version if evaluated is None else evaluated
    value = LOSSES[name] if loss is None else loss
    return Trial(name, version, ended, [Point(v, value) for v in range(last + 1)])


def codes(trials):
    found = {one.project: halved(SWEEP, one.project, trials) for one in trials}
    return {name: reason and reason.code for name, reason in found.items()}


def test_before_the_first_rung_all_go_on():
    assert set(codes([trial(name, 1) for name in NAMES]).values()) == {None}


def test_trials_wait_for_each_other_and_the_best_go_on():
    waiting = [trial("s-1", 1), *(trial(name, 2) for name in NAMES[1:])]
    compared = ReasonCode.TRIALS_COMPARED
    assert codes(waiting) == {"s-1": None, "s-2": compared, "s-3": compared, "s-4": compared}
    reason = halved(SWEEP, "s-2", waiting)
    assert reason is not None
    assert reason.values == {"version": 2, "count": 2}
    # The version is made, but not measured yet.
    waiting[0] = trial("s-1", 2, evaluated=1)
    assert codes(waiting)["s-1"] == compared
    decided = [trial(name, 2) for name in NAMES]
    stopped = ReasonCode.TRIAL_STOPPED
    assert codes(decided) == {"s-1": stopped, "s-2": None, "s-3": None, "s-4": stopped}


def test_at_the_last_rung_one_is_left():
    trials = [trial("s-1", 2), trial("s-2", 4), trial("s-3", 3), trial("s-4", 2)]
    stopped = ReasonCode.TRIAL_STOPPED
    compared = ReasonCode.TRIALS_COMPARED
    assert codes(trials) == {"s-1": stopped, "s-2": compared, "s-3": None, "s-4": stopped}
    trials[2] = trial("s-3", 4)
    assert codes(trials) == {"s-1": stopped, "s-2": None, "s-3": stopped, "s-4": stopped}


def test_nobody_waits_for_a_trial_that_was_left_out_or_has_ended():
    without = [trial(name, 2) for name in NAMES[1:]]
    assert codes(without) == {"s-2": None, "s-3": None, "s-4": ReasonCode.TRIAL_STOPPED}
    ended = [trial("s-1", 1, ended=True, loss=0.5), *without]
    assert codes(ended) == {
        "s-1": None,
        "s-2": None,
        "s-3": ReasonCode.TRIAL_STOPPED,
        "s-4": ReasonCode.TRIAL_STOPPED,
    }


def test_what_was_decided_stays_when_another_comes_later():
    beyond = [trial("s-2", 3), trial("s-3", 3), trial("s-4", 2)]
    late = [*beyond, trial("s-1", 1)]
    assert (codes(late)["s-2"], codes(late)["s-3"]) == (None, None)
    better = [*beyond, trial("s-1", 2, loss=0.1)]
    assert codes(better) == {
        "s-1": None,
        "s-2": None,
        "s-3": None,
        "s-4": ReasonCode.TRIAL_STOPPED,
    }
    forgotten = [
        trial("s-1", 2),
        thinned(trial("s-2", 9)),
        thinned(trial("s-3", 3)),
        trial("s-4", 2),
    ]
    assert codes(forgotten)["s-3"] is None, "evaluations of old versions are thinned out"


def thinned(one):
    """Return the trial without what was evaluated at the rungs."""
    return one._replace(points=[point for point in one.points if point.version not in {2, 4}])


def test_of_equals_the_first_goes_on_and_infinity_is_worst():
    equal = [trial(name, 2, loss=1.0) for name in NAMES]
    assert [name for name, code in codes(equal).items() if code is None] == ["s-1", "s-2"]
    worst = [trial("s-1", 2, loss=math.inf), *(trial(name, 2) for name in NAMES[1:])]
    assert codes(worst)["s-1"] == ReasonCode.TRIAL_STOPPED


def test_the_order_of_the_rows_decides_nothing():
    trials = [trial(name, 2) for name in NAMES]
    for order in itertools.permutations(trials):
        assert codes(order)["s-2"] is codes(order)["s-3"] is None


@pytest.mark.parametrize(
    "rungs",
    [
        [Rung(version=2, keep=2), Rung(version=2, keep=1)],
        [Rung(version=2, keep=1), Rung(version=4, keep=2)],
    ],
)
def test_rungs_are_in_order(rungs):
    with pytest.raises(ValueError, match="not in order"):
        Family(name="s", kind="sweep", members=NAMES, rungs=rungs)
    assert msgspec.structs.replace(SWEEP, rungs=SWEEP.rungs[:1]).rungs == SWEEP.rungs[:1]
