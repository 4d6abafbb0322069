"""What `tests.soak.agents` counts as lost."""

from __future__ import annotations

import pytest

from tests.soak.agents import CHECKPOINT_SECONDS, SLACK_SECONDS, Kill, Watched


def watched_for(seconds: int, *, unit: int = 1) -> Watched:
    """Return an agent that has done ten steps a second, looked at each second."""
    watched = Watched("anna")
    for second in range(1, seconds + 1):
        watched.look(second, unit_at(10 * second, unit=unit))
    return watched


def unit_at(steps: int, *, unit: int = 1) -> dict[str, float]:
    return {"id": unit, "steps_done": steps, "compute_seconds": steps / 100}


def test_steps_that_are_repeated_are_counted_once_the_unit_goes_on() -> None:
    watched = watched_for(100)
    killed = watched.expect(Kill("worker", 100.0))
    watched.look(101, unit_at(1000))  # agentd does not know yet
    assert killed.steps == 0
    watched.look(105, unit_at(800))
    assert killed.steps == 200
    assert killed.seconds == pytest.approx(2.0)
    assert killed.most_steps == 10 * (CHECKPOINT_SECONDS + SLACK_SECONDS)
    watched.look(106, unit_at(810))
    assert not watched.unexplained


def test_a_process_that_has_just_begun_may_lose_all_that_it_has_done_and_no_more() -> None:
    watched = watched_for(100)
    watched.expect(Kill("both", 100.0))
    watched.look(105, unit_at(800))
    watched.look(110, unit_at(850))
    again = watched.expect(Kill("agentd", 110.0))
    watched.look(115, unit_at(500))
    assert (again.most_steps, again.steps) == (50, 350)


def test_a_unit_that_goes_back_without_a_kill_is_no_kills_cost() -> None:
    watched = watched_for(100)
    watched.look(101, unit_at(900))
    assert [one.steps for one in watched.unexplained] == [100]


def test_the_next_unit_ends_the_wait_for_what_a_kill_has_cost() -> None:
    watched = watched_for(100)
    killed = watched.expect(Kill("agentd", 100.0))
    watched.look(101, unit_at(10, unit=2))
    watched.look(102, unit_at(5, unit=2))
    assert (killed.unit, killed.steps) == (1, 0)
    assert [one.unit for one in watched.unexplained] == [2]
