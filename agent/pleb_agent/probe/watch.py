"""The rules of watching: when to look, when to say something, when to wait for a push."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

from pleb_agent.probe.backend import QUIET_SECONDS, CannotRead
from pleb_agent.probe.lines import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.probe.backend import Backend, Source

__all__ = ["Watch"]

CLOSE_LOOK_SECONDS: Final = 0.1
"""Between two looks at a system that does not tell by itself, while somebody needs quick notice."""
SHORTEST_LOOK_SECONDS: Final = 1.0
_SAME_INPUT_SECONDS: Final = 0.05
"""Clocks tick in milliseconds, and answers take their time."""


class Watch:
    """Turns one backend and some other sources into lines.

    Args:
        backend: tells of input.
        sources: tell of locks and films. One that fails is forgotten.
        say: takes each line.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        backend: Backend,
        sources: Sequence[Source],
        *,
        say: Callable[[Line], None],
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._sources = list(sources)
        self._say = say
        self._clock = clock
        self._last_input = -math.inf
        self._flags = (False, False)
        self._idle = 0.0
        self._armed = False
        self.closely = False
        """Somebody needs quick notice of input."""

    @property
    def all_sources(self) -> list[Source]:
        """The backend and the others."""
        return [self._backend, *self._sources]

    @property
    def waiting_on(self) -> list[Source]:
        """All that can wake us up."""
        return [source for source in self.all_sources if source.fileno() >= 0]

    def wait_seconds(self) -> float | None:
        """Return when to look again; None: only when something is told."""
        if self._idle < QUIET_SECONDS:
            return max(SHORTEST_LOOK_SECONDS, QUIET_SECONDS - self._idle)
        if self._backend.fileno() >= 0:
            return None
        return CLOSE_LOOK_SECONDS if self.closely else QUIET_SECONDS

    def look(self, *, told: Sequence[Source] = (), asked: bool = False) -> None:
        """Take in what `told` has to say, look at the idle time, and say what is new.

        Raises:
            SessionLost: the backend is gone.
        """
        for source in told:
            self._take(source)
        if self._backend.fileno() < 0:
            self._backend.take()
        self._idle = self._idle_seconds()
        if self._idle < QUIET_SECONDS:
            self._armed = False
        elif not self._armed:
            self._arm()
        self._tell(asked=asked)

    def _arm(self) -> None:
        """Look again after arming: input may have come just before."""
        self._backend.arm()
        self._idle = self._idle_seconds()
        self._armed = self._idle >= QUIET_SECONDS

    def _take(self, source: Source) -> None:
        if source is self._backend:
            source.take()
            return
        try:
            source.take()
        except CannotRead:
            self._sources.remove(source)
            source.close()

    def _tell(self, *, asked: bool) -> None:
        """Say what is new.

        The last input may also have been earlier than told before: some backends know the idle
        time only when it is long enough.
        """
        last_input = self._clock() - self._idle
        moved = abs(last_input - self._last_input) > _SAME_INPUT_SECONDS
        flags = self._locked(), self._fullscreen()
        if not (moved or asked or flags != self._flags):
            return
        self._flags = flags
        if moved:
            self._last_input = last_input
        idle_seconds = round(self._idle, 3)
        self._say(Line("readable", self._backend.method, idle_seconds, *flags))

    def _idle_seconds(self) -> float:
        """Ask the backend; while another user is at the PC somebody touches it all the time."""
        return 0.0 if self._in_use() else self._backend.idle_seconds()

    def _in_use(self) -> bool:
        return any(source.in_use for source in self._sources)

    def _locked(self) -> bool:
        """Our lock says nothing while another user sits in front of it."""
        return not self._in_use() and any(source.locked for source in self.all_sources)

    def _fullscreen(self) -> bool:
        return any(source.fullscreen for source in self.all_sources)

    def close(self) -> None:
        """Let go of everything."""
        with ExitStack() as stack:
            for source in self.all_sources:
                stack.enter_context(closing(source))
