"""How long a process that dies waits for its next start."""

from __future__ import annotations

from pleb_coordinator.cli.supervisor import LONGEST_BACKOFF_SECONDS, STEADY_SECONDS, Child


def test_a_child_that_dies_again_and_again_waits_ever_longer():
    child = Child("HTTP", ["true"])
    waits = [child.died(0.1 * n) for n in range(12)]
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == LONGEST_BACKOFF_SECONDS
    assert waits == sorted(waits)


def test_one_that_ran_steadily_starts_again_at_once():
    child = Child("HTTP", ["true"], backoff_seconds=8.0)
    assert child.died(STEADY_SECONDS) == 0.0
    assert child.start_at == STEADY_SECONDS
