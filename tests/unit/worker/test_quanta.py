"""However long the parts of a step are, a card's queue is soon empty."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pleb_agent.worker.devices.quanta import QUANTUM_SECONDS, Quanta


class Queue:
    """A card on a clock: parts are queued at once, and take their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done_at = 0.0
        self.waits = 0
        self.most_seconds = 0.0
        """The longest that anything waited in the queue."""
        self.quanta = Quanta(self.synchronize, lambda: self.now)

    def queue(self, seconds: float, launch_seconds: float = 1e-6) -> None:
        self.now += launch_seconds
        self.done_at = max(self.done_at, self.now) + seconds
        self.most_seconds = max(self.most_seconds, self.done_at - self.now)
        self.quanta.part_done()

    def synchronize(self) -> None:
        self.waits += 1
        self.now = max(self.now, self.done_at)


def test_steps_of_equal_parts_keep_the_bound_and_hardly_wait() -> None:
    for part_seconds in (0.00001, 0.0005, 0.01, 0.03, 0.3):
        queue = Queue()
        for _ in range(50):
            for _ in range(100):
                queue.queue(part_seconds)
            queue.quanta.finish()
        assert queue.most_seconds <= max(QUANTUM_SECONDS, part_seconds) * 1.01
        if part_seconds < 0.001:
            assert queue.waits < 100 + 50 * 5


SECONDS = st.sampled_from([1e-6, 1e-4, 0.002, 0.02, 0.1])


@settings(max_examples=60, deadline=None)
@given(st.lists(SECONDS, min_size=1, max_size=60), st.floats(0.9, 1.1))
def test_steps_of_any_parts_keep_the_bound(parts: list[float], change: float) -> None:
    queue = Queue()
    for number in range(6):
        for seconds in parts:
            queue.queue(seconds * (change if number > 2 else 1.0))  # the card gets slower, or not
        queue.quanta.finish()
    assert queue.most_seconds <= 1.2 * max(QUANTUM_SECONDS, *parts)


def test_other_steps_are_learnt_anew() -> None:
    queue = Queue()
    for seconds in (0.0001, 0.03):
        for _ in range(3):
            for _ in range(50):
                queue.queue(seconds)
            queue.quanta.finish()
        queue.quanta.forget()
    assert queue.most_seconds <= QUANTUM_SECONDS * 1.01


def test_the_time_of_work_is_counted_and_a_suspension_is_not() -> None:
    queue = Queue()
    queue.queue(0.01)
    assert abs(queue.quanta.busy_seconds() - 0.01) < 1e-4
    queue.now += 5  # nothing to do
    assert abs(queue.quanta.busy_seconds() - 0.01) < 1e-4
    for _ in range(3):
        queue.queue(0.001)
    queue.now += 60
    queue.quanta.resumed()
    queue.quanta.finish()
    assert queue.quanta.busy_seconds() < 0.02
