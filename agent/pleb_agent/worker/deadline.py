"""Ends the worker when one run of a graph computes far longer than its operations explain.

The dry run bounds operations, but a kernel may be slow for values that it cannot see, and one that
runs cannot be interrupted. So a thread looks on, and the process ends with an answer.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn

from pleb_agent.worker.job import Failed, FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.worker.job import Reply
    from pleb_shared.training.dry_run import Cost

__all__ = ["Deadline", "end_late", "run_seconds"]

_LEAST_SECONDS: Final = 5.0
"""For what a first run loads and compiles late."""
_LOOK_SECONDS: Final = 0.25


def run_seconds(cost: Cost) -> float:
    """Return how long one run may compute; a graph that nothing pays for gets under 10 s."""
    return _LEAST_SECONDS + cost.seconds


def end_late(send: Callable[[Reply], None], seconds: float) -> NoReturn:
    """Tell the agent that a run took more than `seconds`, and end the process."""
    message = (
        f"It computed for more than {seconds:.0f} s, far longer than its operations explain: the "
        "worker was ended."
    )
    send(Failed(kind=FailureKind.STEP_TOO_LONG, message=message))
    os._exit(1)


class Deadline:
    """A limit for the run that was begun last; a thread calls `expire` when it is over.

    A run must have used both its time and as much processor time: a process that was suspended,
    or crowded out by others, is not late. Time is counted in looks, so that a suspension counts as
    one of them.
    """

    def __init__(
        self, expire: Callable[[float], None], cpu_clock: Callable[[], float] = time.process_time
    ) -> None:
        self._expire = expire
        self._cpu_clock = cpu_clock
        self._thread: threading.Thread | None = None
        self._runs = 0
        self._limit_seconds = 0.0
        self._used_before = 0.0
        self._looking = threading.Event()
        """Set while a run may be going on: an idle process is not woken."""

    def begin(self, seconds: float) -> None:
        """Let what begins now compute this long; what was begun before has ended."""
        self._used_before = self._cpu_clock()
        self._limit_seconds = seconds
        self._runs += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="deadline", daemon=True)
            self._thread.start()
        if not self._looking.is_set():
            self._looking.set()

    def rest(self) -> None:
        """Let nothing be late until the next `begin`."""
        self._looking.clear()

    def _look(self) -> None:
        seen, seconds = 0, 0.0
        while self._looking.wait():
            time.sleep(_LOOK_SECONDS)
            if seen != self._runs or not self._looking.is_set():
                seen, seconds = self._runs, 0.0
                continue
            seconds += _LOOK_SECONDS
            limit = self._limit_seconds
            if seconds > limit and self._cpu_clock() - self._used_before > limit:
                self._expire(limit)
                return
