"""A calendar file as a signal: read again when it changes, and once a day."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.core.signals import SignalReading
from pleb_agent.program.command import module_command
from pleb_agent.signals.read import SignalError

if TYPE_CHECKING:
    from pleb_agent.core.signals import Signal

__all__ = ["CalendarReader", "reading_at"]

_AHEAD_SECONDS: Final = 2 * 86_400.0
_AGAIN_SECONDS: Final = 86_400.0
_MOST_SECONDS: Final = 30.0
_MODULE: Final = "pleb_agent.signals.calendar_reader"

Spans = list[tuple[float, float]]


class CalendarReader:
    """Knows when the events of one file are. Blocks while the file is read."""

    def __init__(self, signal: Signal) -> None:
        self._path = Path(signal.address).expanduser()
        self._word = signal.word
        self._read_at = 0.0
        self._stamp: tuple[int, int] | None = None
        self._spans: Spans = []

    def read(self, now: float) -> SignalReading:
        """Return whether an event is on, and until when that holds.

        Raises:
            SignalError: the file is not there, or no calendar.
        """
        try:
            found = self._path.stat()
        except OSError as error:
            why = error.strerror or str(error)
            raise SignalError(
                "{path} cannot be read ({why}); check its path.", path=str(self._path), why=why
            ) from error
        stamp = found.st_mtime_ns, found.st_size
        if stamp != self._stamp or not 0 <= now - self._read_at < _AGAIN_SECONDS:
            self._spans = self._look(now)
            self._stamp, self._read_at = stamp, now
        return reading_at(self._spans, now)

    def _look(self, now: float) -> Spans:
        command = [*module_command(_MODULE), str(self._path), str(now), str(now + _AHEAD_SECONDS)]
        command += [self._word] if self._word else []
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_MOST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SignalError(
                "{path} takes too long to read; export less of it.", path=str(self._path)
            ) from error
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            why = lines[-1][:120] if lines else f"the reader ended with {done.returncode}"
            raise SignalError("{path} cannot be read: {why}.", path=str(self._path), why=why)
        return [(float(begin), float(end)) for begin, end in json.loads(done.stdout)]


def reading_at(spans: Spans, now: float) -> SignalReading:
    """Return whether a time is in one of the spans, and when that changes."""
    for begin, end in spans:
        if begin <= now < end:
            return SignalReading(1.0, now, until=end)
    later = [begin for begin, _ in spans if begin > now]
    return SignalReading(0.0, now, until=min(later, default=None))
