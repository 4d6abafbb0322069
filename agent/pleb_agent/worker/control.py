"""The worker's side of the control: commands, the flag page between two steps, and its share."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import IO, TYPE_CHECKING, Final

from pleb_agent.worker.channel import Request, State, read_frame
from pleb_agent.worker.errors import JobStopped
from pleb_agent.worker.job import Command, Job, Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pleb_agent.worker.channel import FlagPage

__all__ = ["CommandReader", "Throttle"]

_BROKEN_PIPE_EXIT: Final = 3
"""Exit code when the agent sends something else than a command."""


class CommandReader:
    """Reads commands in a thread of its own, so that the agent's end is noticed at once."""

    def __init__(
        self,
        stream: IO[bytes],
        page: FlagPage,
        throttle: Throttle,
        on_resumed: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._on_resumed = on_resumed
        self._page = page
        self._throttle = throttle
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._woken = threading.Event()
        self.suspensions = 0
        """How often the agent has suspended and resumed this process, as far as it knows."""
        self._reader = threading.Thread(target=self._read, name="commands", daemon=True)

    def start(self, first: Job | None = None) -> None:
        """Begin to read. Must be called in the process's main thread. `first`: a job in hand."""
        if first is not None:
            self._jobs.put(first)
        if sys.platform != "win32":
            signal.signal(signal.SIGCONT, self._resumed)
        self._reader.start()

    def next_job(self) -> Job:
        """Sleep until there is a job; the page says idle meanwhile."""
        self._page.state = State.IDLE
        job = self._jobs.get()
        self._page.state = State.COMPUTING
        return job

    def between_steps(self) -> None:
        """Follow the flag page: sleep while it says pause, or while more than the share is used.

        Raises:
            JobStopped: it says to checkpoint and stop.
        """
        while True:
            self._woken.clear()
            request = self._page.request
            if request is Request.CHECKPOINT_AND_STOP:
                message = "The unit was stopped; run it again to resume."
                raise JobStopped(message)
            rest = self._throttle.rest_seconds(self._page.share_percent)
            if request is Request.PAUSE:
                self._sleep(State.PAUSED, None)
            elif rest:
                self._sleep(State.RESTING, rest)
            else:
                return

    def _sleep(self, state: State, seconds: float | None) -> None:
        """Sleep until woken. Says that it computes before the request is read again.

        So an agent that sees the old state after a new request can rely on it.
        """
        self._page.state = state
        self._woken.wait(seconds)
        self._page.state = State.COMPUTING

    def _resumed(self, _number: int, _frame: FrameType | None) -> None:
        self.suspensions += 1
        self._on_resumed()

    def _read(self) -> None:
        """Read until the agent is gone: then no result is needed, so the process ends."""
        try:
            while True:
                command: Command = read_frame(self._stream, Command)
                if isinstance(command, Run):
                    self._jobs.put(command.job)
                else:
                    self._woken.set()
        except EOFError:
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(_BROKEN_PIPE_EXIT)


_LEAST_REST_SECONDS: Final = 0.02
"""Short steps run together up to this debt: fewer wake-ups, and idle processors sleep deeper."""
_MOST_CREDIT_SECONDS: Final = 0.1
"""Unused time is made up for to this extent: enough for late wake-ups, too little for a burst."""


class Throttle:
    """Compares the computing time of this process with its share of the time gone by.

    `lanes`: how many seconds of that fit into one, such as threads; `busy_clock` counts them.

    Time in which the process was paused, suspended or crowded out counts as time not used.
    """

    def __init__(
        self,
        lanes: int,
        clock: Callable[[], float] = time.monotonic,
        busy_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._lanes = lanes
        self._clock = clock
        self._busy_clock = busy_clock
        self._percent = 100
        self._since = clock()
        self._used_before = busy_clock()

    def rest_seconds(self, percent: int) -> float:
        """Return how long to rest now to keep to `percent` (1 to 100) of the lanes' time; 0: not.

        A new percentage applies from now on: no old debt, no old credit.
        """
        now, used = self._clock(), self._busy_clock()
        if percent != self._percent or percent >= 100:
            self._percent, self._since, self._used_before = percent, now, used
            return 0.0
        wanted = (used - self._used_before) / (self._lanes * percent / 100)
        debt = wanted - (now - self._since)
        if debt < -_MOST_CREDIT_SECONDS:
            self._since, self._used_before = now - _MOST_CREDIT_SECONDS, used
        return debt if debt >= _LEAST_REST_SECONDS else 0.0
