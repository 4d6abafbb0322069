"""How long to wait after failures, and before a process is started again."""

from __future__ import annotations

import pytest

from pleb_system.backoff import Backoff, Restarts


@pytest.mark.parametrize(
    ("failures", "draw", "asked", "seconds"),
    [
        (1, 0.0, None, 0.5),
        (1, 0.999, None, 1.0),
        (4, 0.0, None, 4.0),
        (11, 0.0, None, 300.0),
        (10**6, 0.0, None, 300.0),
        (1, 0.0, 30.0, 30.0),
        (1, 0.5, 30.0, 31.5),
        (11, 0.0, 5.0, 300.0),
    ],
)
def test_backoff_grows_to_a_ceiling_and_obeys(failures, draw, asked, seconds):
    assert Backoff().delay_seconds(failures, draw, asked) == pytest.approx(seconds, rel=1e-2)


def test_a_process_that_ends_again_and_again_waits_ever_longer():
    restarts = Restarts(Backoff(first_seconds=0.2, longest_seconds=30.0))
    waits = [restarts.delay_seconds(lived_seconds=0.1) for _ in range(12)]
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == 30.0
    assert waits == sorted(waits)


def test_one_that_ran_steadily_starts_again_at_once_and_is_forgiven():
    restarts = Restarts(Backoff(first_seconds=0.2), steady_seconds=60.0)
    assert [restarts.delay_seconds(lived) for lived in (1.0, 1.0, 60.0, 1.0)] == [
        0.2, 0.4, 0.0, 0.2,
    ]  # fmt: skip


def test_one_that_had_been_ready_is_back_soon_however_often_it_is_killed():
    restarts = Restarts(Backoff(first_seconds=0.2, longest_seconds=30.0))
    waits = [restarts.delay_seconds(1.0, was_ready=True) for _ in range(100)]
    assert waits[:4] == [0.2, 0.4, 0.8, 0.8]
    assert max(waits) == 0.8


def test_only_starts_in_vain_one_after_the_other_make_the_wait_long():
    restarts = Restarts(Backoff(first_seconds=0.2, longest_seconds=30.0))
    vain = [restarts.delay_seconds(1.0) for _ in range(8)]
    assert vain[-1] > 20
    assert restarts.delay_seconds(1.0, was_ready=True) == 0.8
    assert restarts.delay_seconds(1.0) == 1.6
