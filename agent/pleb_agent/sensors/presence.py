"""When the user last touched this PC, as the probe process tells it.

The probe may hang or die with the display server it asks; agentd only reads lines from it:
kills it when it is silent for too long, starts it again ever more slowly, and meanwhile says that
the session cannot be read, which counts as in use.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from pleb_agent.core.backoff import Backoff
from pleb_agent.core.readings import NOBODY, Presence, PresenceKind
from pleb_agent.program.command import module_command
from pleb_agent.sensors.probe_process import ProbeProcess
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["PATIENCE", "PROBE", "Patience", "PresenceSensor", "ProbeFailed"]

_LOG: Final = logging.getLogger("pleb.agent")

PROBE: Final = "pleb_agent.probe.main"
_SAME_INPUT_SECONDS: Final = 0.5
"""Two readings of one input differ by what the line took to come here."""
_CLOCK_SET_SECONDS: Final = 2.0
"""By more than that a clock does not wander: it was set, or the machine slept."""
_LONGEST_IDLE_SECONDS: Final = 400_000_000.0
"""Whoever says that nobody touched the PC for a dozen years counts something else."""
_TALK_SECONDS: Final = 10.0
_MOST_LINES: Final = 300
_RESTART: Final = Backoff(first_seconds=1.0, longest_seconds=60.0)
_HIGHEST_DRAW: Final = 1.0
"""One host restarts one probe: there is nobody to keep out of step with."""

STARTING: Final = Presence(
    PresenceKind.UNREADABLE,
    problem="The program that watches for input is starting.",
    starting=True,
)


class ProbeFailed(PlebError):
    """The probe ended, is silent or talks nonsense. It is started again by itself."""


@dataclass(frozen=True)
class Patience:
    """How long the probe may be silent, and how fast it is started again."""

    silence_seconds: float = 30.0
    """After that it is asked for a line."""
    answer_seconds: float = 10.0
    """An answer, or the first line, must come within that."""
    restart: Backoff = _RESTART
    healthy_seconds: float = 60.0
    """Who lived that long did not fail at once: the next wait is short again."""


PATIENCE: Final = Patience()


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the probe: the whole state (`pleb_agent.probe.lines`)."""

    kind: Literal["readable", "nobody", "unreadable"]
    method: str = ""
    idle_seconds: Annotated[float, msgspec.Meta(le=_LONGEST_IDLE_SECONDS)] = 0.0
    locked: bool = False
    fullscreen: bool = False
    problem: str = ""


_DECODER: Final = msgspec.json.Decoder(_Line)


class PresenceSensor:
    """Keeps `presence` up to date while `run` runs; `on_change` is told of every news.

    Args:
        on_change: called in the event loop after `presence` changed. The first input after an
            idle time comes at once, further input every few seconds.
        command: how the probe is started.
        clock: seconds since 1970; it may be set at any time.
        steady: seconds that only the time spent awake adds to.
        environment: of the probe; None: our own.
        patience: how long to wait for it.
    """

    def __init__(
        self,
        on_change: Callable[[], None],
        *,
        command: Sequence[str] | None = None,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self._on_change = on_change
        self._command = list(command) if command else module_command(PROBE)
        self._clock = clock
        self._steady = steady
        self._apart = clock() - steady()
        self._environment = environment
        self._patience = patience
        self._process: ProbeProcess | None = None
        self._closely = False
        self._presence = STARTING

    @property
    def presence(self) -> Presence:
        """What is known now.

        A clock that is set forward makes nobody idle, and neither does a machine's sleep: whoever
        opens the lid sits there.
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
        """Say whether anybody needs quick notice of input (a worker runs).

        Systems that tell of input by themselves do so anyway; the others are looked at often
        only while it is needed.
        """
        if needed is not self._closely:
            self._closely = needed
            if self._process is not None:
                self._process.send("watch" if needed else "relax")

    async def run(self) -> None:
        """Start the probe and believe it, over and over, until cancelled."""
        failures = 0
        while True:
            born_at = asyncio.get_running_loop().time()
            try:
                await self._one_life()
            except ProbeFailed as error:
                _LOG.warning("probe failed", extra={"problem": str(error)})
                self._become(Presence(PresenceKind.UNREADABLE, problem=str(error)))
            lived_seconds = asyncio.get_running_loop().time() - born_at
            failures = 1 if lived_seconds > self._patience.healthy_seconds else failures + 1
            await asyncio.sleep(self._patience.restart.delay_seconds(failures, _HIGHEST_DRAW))

    async def _one_life(self) -> None:
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
        wait, asked, talk = self._patience.answer_seconds, True, _Talk()
        while True:
            try:
                async with asyncio.timeout(wait):
                    line = await process.line()
            except TimeoutError as error:
                if asked:
                    raise ProbeFailed("The program that watches for input hangs.") from error
                process.send("ask")
                wait, asked = self._patience.answer_seconds, True
                continue
            if not line:
                return self._ended()
            talk.count(asyncio.get_running_loop().time())
            self._become(self._presence_of(_parse(line)))
            wait, asked = self._patience.silence_seconds, False

    def _presence_of(self, line: _Line) -> Presence:
        if line.kind == "nobody":
            return NOBODY
        if line.kind == "unreadable":
            return Presence(
                PresenceKind.UNREADABLE, problem=line.problem or "Unknown.", method=line.method
            )
        return Presence(
            PresenceKind.READABLE,
            last_input_at=self._last_input_at(line.idle_seconds),
            locked=line.locked,
            fullscreen=line.fullscreen,
            method=line.method,
        )

    def _last_input_at(self, idle_seconds: float) -> float:
        at, before = self._clock() - max(0.0, idle_seconds), self.presence
        known = before.kind is PresenceKind.READABLE
        if known and abs(at - before.last_input_at) < _SAME_INPUT_SECONDS:
            return before.last_input_at
        return at

    def _ended(self) -> None:
        """A probe that told why it cannot read ends by itself: its sentence stays."""
        if self.presence.kind is not PresenceKind.UNREADABLE or self.presence == STARTING:
            raise ProbeFailed("The program that watches for input ended.")

    def _become(self, presence: Presence) -> None:
        if presence != self.presence:
            self._presence = presence
            self._on_change()


class _Talk:
    """Counts lines: each costs agentd time, and a healthy probe has one for it now and then."""

    def __init__(self) -> None:
        self._since = -math.inf
        self._lines = 0

    def count(self, now: float) -> None:
        """Hear one more.

        Raises:
            ProbeFailed: there were too many of late.
        """
        if now - self._since > _TALK_SECONDS:
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines > _MOST_LINES:
            raise ProbeFailed("The program that watches for input talks without end.")


def _parse(line: bytes) -> _Line:
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError as error:
        raise ProbeFailed("The program that watches for input talks nonsense.") from error
