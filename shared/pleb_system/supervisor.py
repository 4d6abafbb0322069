"""Starts child processes, restarts those that end, stops all together."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pleb_system.backoff import Backoff, Restarts
from pleb_system.leash import leashed
from pleb_system.processes import stop_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

__all__ = ["Child", "Supervisor", "stop_event"]

_RESTART: Final = Backoff(first_seconds=0.2, longest_seconds=30.0)
_STOP_SECONDS: Final = 6.0
"""Afterwards children that do not end are killed; what they have committed is safe on the disk."""
_POLL_SECONDS: Final = 0.1


@dataclass
class Child:
    """A process that must run. `quiet`: what it prints is dropped, as it has a log of its own."""

    name: str
    command: list[str]
    pass_fds: Sequence[int] = ()
    quiet: bool = False
    restarts: Restarts = field(default_factory=lambda: Restarts(_RESTART))
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float | None = None
    """When it is started again, after its end."""

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


@dataclass
class Supervisor:
    """Keeps children running until `stop` is set.

    `report` gets a sentence whenever a child ends; `each_round` is called ten times a second.
    """

    children: list[Child]
    stop: threading.Event
    report: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    each_round: list[Callable[[], None]] = field(default_factory=list)

    def start(self) -> None:
        """Start all children."""
        for child in self.children:
            child.start(self.clock())

    def watch(self) -> None:
        """Restart children that end until `stop` is set; then stop all."""
        try:
            while not self.stop.wait(_POLL_SECONDS):
                for child in self.children:
                    self._restart_if_ended(child)
                for call in self.each_round:
                    call()
        finally:
            stop_processes((c.process for c in self.children if c.process), _STOP_SECONDS)

    def _restart_if_ended(self, child: Child) -> None:
        now = self.clock()
        if child.start_at is not None:
            if now >= child.start_at:
                child.start(now)
        elif child.process is not None and (code := child.process.poll()) is not None:
            wait = child.restarts.delay_seconds(now - child.started_at)
            child.start_at = now + wait
            self.report(
                f"The {child.name} process ended with code {code}; it restarts in {wait:.1f} s."
            )


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handler(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    return stop
