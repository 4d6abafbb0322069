"""When the user last touched this PC, as the probe process reports it.

The probe may hang or die with the display server it asks. agentd only reads lines from it, kills
it when it is silent for too long, and starts it again with growing waits; meanwhile the session
cannot be read, which counts as in use.
"""

from __future__ import annotations

import asyncio
import logging
import math
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.readings import NO_SESSION, Presence, PresenceKind
from pleb_agent.probe.lines import Line
from pleb_agent.program.command import module_command
from pleb_shared.errors import PlebError
from pleb_system.backoff import Backoff, Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["PROBE", "PresenceSensor", "ProbeFailed", "ProbeProcess", "ProbeTimeouts"]

_LOG: Final = logging.getLogger("pleb.agent")

PROBE: Final = "pleb_agent.probe.main"
_SAME_INPUT_SECONDS: Final = 0.5
"""Two readings of one input differ by what the line took to come here."""
_CLOCK_SET_SECONDS: Final = 2.0
"""A larger difference is no drift: the clock was set, or the machine slept."""
_LONGEST_IDLE_SECONDS: Final = 400_000_000.0
"""A dozen years: a larger number is not an idle time."""
_FLOOD_SECONDS: Final = 10.0
_MOST_LINES: Final = 300
"""In that time. Each line costs agentd time, and a healthy probe writes one now and then."""
_LONGEST_LINE_BYTES: Final = 4096
_MOST_WAITING_LINES: Final = 16
"""A process that writes more is read no faster than they are taken."""
_RESTART: Final = Backoff(first_seconds=1.0, longest_seconds=60.0)
STARTING: Final = Presence(
    PresenceKind.UNREADABLE,
    problem="The program that watches for input is starting.",
    starting=True,
)


class ProbeFailed(PlebError):
    """The probe ended, is silent or sent invalid data. It is started again automatically."""


@dataclass(frozen=True)
class ProbeTimeouts:
    """How long the probe may be silent, and how fast it is started again."""

    silence_seconds: float = 30.0
    """After that it is asked for a line."""
    answer_seconds: float = 10.0
    """An answer, or the first line, must come within that."""
    restart: Backoff = _RESTART
    healthy_seconds: float = 60.0
    """A probe that ran this long is started again at once."""


_DECODER: Final = msgspec.json.Decoder(Line)


class PresenceSensor:
    """Keeps `presence` up to date while `run` runs; `on_change` is called at each change.

    Args:
        on_change: called in the event loop after `presence` changed. The first input after an
            idle time comes at once, further input every few seconds.
        command: how the probe is started.
        clock: seconds since 1970; it may be set at any time.
        steady: seconds that only the time spent awake adds to.
        environment: of the probe; None: our own.
        timeouts: how long to wait for it.
    """

    def __init__(
        self,
        on_change: Callable[[], None],
        *,
        command: Sequence[str] | None = None,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] | None = None,
        timeouts: ProbeTimeouts = ProbeTimeouts(),
    ) -> None:
        self._on_change = on_change
        self._command = list(command) if command else module_command(PROBE)
        self._clock = clock
        self._steady = steady
        self._apart = clock() - steady()
        self._environment = environment
        self._timeouts = timeouts
        self._process: ProbeProcess | None = None
        self._closely = False
        self._presence = STARTING

    @property
    def presence(self) -> Presence:
        """What is known now.

        Neither a clock that is set forward nor the machine's sleep counts as idle time: the user
        woke it up.
        """
        set_by = self._clock() - self._steady() - self._apart
        if abs(set_by) > _CLOCK_SET_SECONDS:
            self._apart += set_by
            at = self._presence.last_input_at
            self._presence = replace(self._presence, last_input_at=at + set_by if at else 0.0)
        return self._presence

    @property
    def pid(self) -> int | None:
        """The probe's process, while there is one."""
        return None if self._process is None else self._process.pid

    def watch_closely(self, needed: bool) -> None:
        """Set whether input must be reported quickly (a worker runs).

        Systems that signal input report it quickly anyway; the others are polled often only while
        it is needed.
        """
        if needed is not self._closely:
            self._closely = needed
            if self._process is not None:
                self._process.send("watch" if needed else "relax")

    async def run(self) -> None:
        """Run the probe, again whenever it ends, until cancelled."""
        restarts = Restarts(self._timeouts.restart, self._timeouts.healthy_seconds)
        while True:
            started_at = asyncio.get_running_loop().time()
            try:
                await self._run_once()
            except ProbeFailed as error:
                _LOG.warning("probe failed", extra={"problem": str(error)})
                self._set_presence(Presence(PresenceKind.UNREADABLE, problem=str(error)))
            run_seconds = asyncio.get_running_loop().time() - started_at
            await asyncio.sleep(restarts.delay_seconds(run_seconds))

    async def _run_once(self) -> None:
        try:
            self._process = ProbeProcess(self._command, self._environment)
        except OSError as error:
            message = f"The program that watches for input does not start: {error}."
            raise ProbeFailed(message) from error
        try:
            if self._closely:
                self._process.send("watch")
            await self._listen(self._process)
        finally:
            self._process.end()
            self._process = None

    async def _listen(self, process: ProbeProcess) -> None:
        wait, asked, since, count = self._timeouts.answer_seconds, True, -math.inf, 0
        while True:
            try:
                async with asyncio.timeout(wait):
                    line = await process.line()
            except TimeoutError as error:
                if asked:
                    raise ProbeFailed("The program that watches for input hangs.") from error
                process.send("ask")
                wait, asked = self._timeouts.answer_seconds, True
                continue
            if not line:
                # A probe that reported why it cannot read ends by itself: its sentence stays.
                if self.presence.kind is not PresenceKind.UNREADABLE or self.presence == STARTING:
                    raise ProbeFailed("The program that watches for input ended.")
                return
            now = asyncio.get_running_loop().time()
            since, count = (now, 1) if now - since > _FLOOD_SECONDS else (since, count + 1)
            if count > _MOST_LINES:
                raise ProbeFailed("The program that watches for input floods its output.")
            self._set_presence(self._presence_of(_parse(line)))
            wait, asked = self._timeouts.silence_seconds, False

    def _presence_of(self, line: Line) -> Presence:
        if line.kind == "no_session":
            return NO_SESSION
        if line.kind == "unreadable":
            return Presence(
                PresenceKind.UNREADABLE, problem=line.problem or "Unknown.", method=line.method
            )
        at, before = self._clock() - max(0.0, line.idle_seconds), self.presence
        is_known = before.kind is PresenceKind.READABLE
        if is_known and abs(at - before.last_input_at) < _SAME_INPUT_SECONDS:
            at = before.last_input_at
        return Presence(
            PresenceKind.READABLE,
            last_input_at=at,
            locked=line.locked,
            fullscreen=line.fullscreen,
            method=line.method,
        )

    def _set_presence(self, presence: Presence) -> None:
        if presence != self.presence:
            self._presence = presence
            self._on_change()


def _parse(line: bytes) -> Line:
    try:
        parsed = _DECODER.decode(line)
    except msgspec.DecodeError as error:
        raise ProbeFailed("The program that watches for input sent invalid data.") from error
    if parsed.idle_seconds > _LONGEST_IDLE_SECONDS:
        raise ProbeFailed("The program that watches for input sent an impossible idle time.")
    return parsed


class ProbeProcess:
    """The probe's process, whose lines a thread reads, so that nothing it does can delay agentd.

    To be made and used in one event loop. asyncio's own subprocesses end only after their pipes,
    which a flooding child keeps open, and race with their own watcher for the exit status.

    Raises:
        OSError: it does not start.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=None if environment is None else dict(environment),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # on Windows only
        )
        assert self._process.stdin is not None  # noqa: S101 - both were asked for
        assert self._process.stdout is not None  # noqa: S101
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.pid = self._process.pid
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = threading.Semaphore(_MOST_WAITING_LINES)
        self._loop = asyncio.get_running_loop()
        self._ended = False
        threading.Thread(target=self._read, daemon=True, name="probe").start()

    async def line(self) -> bytes:
        """Return the next line with its end, cut when it is too long; b"" at the process's end."""
        line = await self._lines.get()
        self._room.release()
        return line

    def send(self, command: str) -> None:
        """Send a command; nothing happens where the process is gone."""
        with suppress(OSError, ValueError):  # it is gone; the pipe is closed
            self._stdin.write(command.encode() + b"\n")
            self._stdin.flush()

    def end(self) -> None:
        """Close its input, which ends a healthy probe, and kill it in any case.

        The thread waits for the end, which may take long in a hanging kernel call.
        """
        with suppress(OSError):  # what was not sent is of no use
            self._stdin.close()
        self._process.kill()
        self._ended = True
        self._room.release()

    def _read(self) -> None:
        with self._stdout:
            while not self._ended and (line := self._stdout.readline(_LONGEST_LINE_BYTES)):
                self._room.acquire()
                self._deliver(line)
        self._process.wait()
        self._deliver(b"")

    def _deliver(self, line: bytes) -> None:
        with suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
