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
from pleb_system.ready import ReadyPipe

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
    """A process that must run. `quiet`: what it prints is dropped, as it has a log of its own.

    `says_ready`: it takes the option of `pleb_system.ready`.
    """

    name: str
    command: list[str]
    pass_fds: Sequence[int] = ()
    quiet: bool = False
    says_ready: bool = False
    restarts: Restarts = field(default_factory=lambda: Restarts(_RESTART))
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float | None = None
    """When it is started again, after its end."""
    _ready: ReadyPipe | None = None

    @property
    def pid(self) -> int | None:
        """Its process number; None before its first start."""
        return None if self.process is None else self.process.pid

    def start(self, now: float) -> None:
        """Start it, on a leash: it ends when this process does.

        Raises:
            OSError: the system starts no process now; `plan_restart` is to follow, or the end.
        """
        self.started_at, self.start_at = now, None
        command, passed = self.command, self.pass_fds
        if self.says_ready:
            self._ready = ReadyPipe()
            command = [*command, *self._ready.arguments]
            passed = (*passed, self._ready.descriptor)
        try:
            self.process = subprocess.Popen(
                leashed(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if self.quiet else None,
                pass_fds=passed,
            )
        finally:
            if self._ready is not None:
                self._ready.hand_over()

    def plan_restart(self, now: float) -> float:
        """Set when it is started again, as it has ended; return in how many seconds that is."""
        was_ready = self.close_pipe()
        wait = self.restarts.delay_seconds(now - self.started_at, was_ready=was_ready)
        self.start_at = now + wait
        return wait

    def close_pipe(self) -> bool:
        """Listen to it no more; return whether it has said that it is ready."""
        pipe, self._ready = self._ready, None
        return pipe is not None and pipe.close()


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
            for child in self.children:
                child.close_pipe()

    def _restart_if_ended(self, child: Child) -> None:
        now = self.clock()
        if child.start_at is not None:
            if now >= child.start_at:
                self._start_again(child, now)
        elif child.process is not None and (code := child.process.poll()) is not None:
            wait = child.plan_restart(now)
            self.report(
                f"The {child.name} process ended with code {code}; it restarts in {wait:.1f} s."
            )

    def _start_again(self, child: Child, now: float) -> None:
        """A machine that is out of memory or processes for a moment must not end all children."""
        try:
            child.start(now)
        except OSError as error:
            wait = child.plan_restart(now)
            self.report(
                f"The {child.name} process cannot be started: {error.strerror}; next try in "
                f"{wait:.1f} s."
            )


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handler(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    return stop
