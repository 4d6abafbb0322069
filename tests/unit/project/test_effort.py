"""How much a check runs: little for small models, bounded for slow ones; it says what it left."""

from __future__ import annotations

import pytest

from pleb_project.check.effort import CPU_SECONDS, RUNS, effort_for


def test_a_small_model_runs_no_more_than_25_steps_of_a_unit():
    effort = effort_for(0.001, 1000, CPU_SECONDS)
    assert (effort.steps, effort.again, effort.estimates) == (25, True, ())
    assert effort.units * effort.steps >= 60


def test_a_short_unit_is_run_whole():
    assert effort_for(0.001, 4, CPU_SECONDS).steps == 4


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 4.0, 8.0, 12.0])
@pytest.mark.parametrize("local_steps", [1, 4, 20, 500])
def test_a_slow_model_stays_within_the_bound_and_says_what_is_estimated(seconds, local_steps):
    effort = effort_for(seconds, local_steps, CPU_SECONDS)
    steps = (RUNS * (1 + effort.again) + effort.units) * effort.steps
    assert steps * seconds <= 1.25 * CPU_SECONDS
    assert 1 <= effort.steps <= min(local_steps, 25)
    whole = effort.steps == min(local_steps, 25)
    learns = effort.units * effort.steps >= 60
    assert bool(effort.estimates) == (not (whole and effort.again and learns))


def test_more_time_measures_more():
    assert effort_for(4.0, 20, 3600).estimates == ()
    assert effort_for(4.0, 20, CPU_SECONDS).estimates
