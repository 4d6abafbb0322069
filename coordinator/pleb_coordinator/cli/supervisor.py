"""Starts the coordinator's processes, starts them again when they die, stops them together."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pleb_coordinator.cli.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

__all__ = ["Child", "Supervisor", "stop_event"]

FIRST_BACKOFF_SECONDS: Final = 0.2
LONGEST_BACKOFF_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A child that ran this long starts again at once."""
STOP_SECONDS: Final = 6.0
"""Afterwards children that do not end are killed; whatever they hold is safe on the disk."""
_POLL_SECONDS: Final = 0.1


@dataclass
class Child:
    """A process that must run, and how it fared."""

    name: str
    command: list[str]
    pass_fds: Sequence[int] = ()
    quiet: bool = False
    """Whether what it prints is thrown away: it has a log of its own."""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    backoff_seconds: float = 0.0
    start_at: float | None = None

    @property
    def pid(self) -> int | None:
        """Its process number; None before its first start."""
        return None if self.process is None else self.process.pid

    def start(self, now: float) -> None:
        """Start it, on a leash: it ends when this process does."""
        self.process = subprocess.Popen(
            leashed(self.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if self.quiet else None,
            pass_fds=self.pass_fds,
        )
        self.started_at, self.start_at = now, None

    def died(self, now: float) -> float:
        """Note its death; return after how many seconds it is started again."""
        steady = now - self.started_at >= STEADY_SECONDS
        longer = max(FIRST_BACKOFF_SECONDS, 2 * self.backoff_seconds)
        self.backoff_seconds = 0.0 if steady else min(LONGEST_BACKOFF_SECONDS, longer)
        self.start_at = now + self.backoff_seconds
        return self.backoff_seconds


@dataclass
class Supervisor:
    """Keeps children alive until `stop` is set."""

    children: list[Child]
    stop: threading.Event
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    each_round: list[Callable[[], None]] = field(default_factory=list)
    """What else is looked after, ten times a second."""

    def start(self) -> None:
        """Start all children."""
        for child in self.children:
            child.start(self.clock())

    def watch(self) -> None:
        """Start again who dies, until told to stop; then stop all."""
        try:
            while not self.stop.wait(_POLL_SECONDS):
                for child in self.children:
                    self._look_after(child)
                for look in self.each_round:
                    look()
        finally:
            self._stop_all()

    def _look_after(self, child: Child) -> None:
        now = self.clock()
        if child.start_at is not None:
            if now >= child.start_at:
                child.start(now)
        elif child.process is not None and (code := child.process.poll()) is not None:
            wait = child.died(now)
            self.say(
                f"The {child.name} process ended with {code}; it starts again in {wait:.1f} s."
            )

    def _stop_all(self) -> None:
        running = list(self._running())
        for process in running:
            process.send_signal(signal.SIGTERM)
        end = self.clock() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, end - self.clock()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _running(self) -> Iterator[subprocess.Popen[bytes]]:
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                yield child.process


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handler(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    return stop
