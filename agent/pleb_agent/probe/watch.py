"""The rules of watching: when to look, when to report, when to wait for a signal."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

from pleb_agent.dbus.stream import ServiceError
from pleb_agent.probe.backend import QUIET_SECONDS
from pleb_agent.probe.lines import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.probe.backend import Backend, Source

__all__ = ["Watch"]

CLOSE_LOOK_SECONDS: Final = 0.1
"""Between two looks at a system that signals nothing, while input must be reported quickly."""
SHORTEST_LOOK_SECONDS: Final = 1.0
_SAME_INPUT_SECONDS: Final = 0.05
"""Clocks tick in milliseconds, and answers take their time."""


class Watch:
    """Turns one backend and some other sources into lines.

    Args:
        backend: knows of input.
        sources: know of locks and full screens. One that fails is dropped.
        report: takes each line.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        backend: Backend,
        sources: Sequence[Source],
        *,
        report: Callable[[Line], None],
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._sources = list(sources)
        self._report = report
        self._clock = clock
        self._last_input = -math.inf
        self._flags = (False, False)
        self._idle = 0.0
        self._armed = False
        self.closely = False
        """Input must be reported quickly."""

    @property
    def all_sources(self) -> list[Source]:
        """The backend and the others."""
        return [self._backend, *self._sources]

    @property
    def waiting_on(self) -> list[Source]:
        """All that can wake us up."""
        return [source for source in self.all_sources if source.fileno() >= 0]

    def wait_seconds(self) -> float | None:
        """Return when to look again; None: only when a source signals something."""
        if self._idle < QUIET_SECONDS:
            return max(SHORTEST_LOOK_SECONDS, QUIET_SECONDS - self._idle)
        if self._backend.fileno() >= 0:
            return None
        return CLOSE_LOOK_SECONDS if self.closely else QUIET_SECONDS

    def look(self, *, ready: Sequence[Source] = (), asked: bool = False) -> None:
        """Take in what `ready` has received, ask for the idle time, and report what has changed.

        `asked`: report in any case.

        Raises:
            ServiceLost: the backend is gone.
        """
        for source in ready:
            try:
                source.take()
            except ServiceError:
                if source is self._backend:
                    raise
                self._sources.remove(source)
                source.close()
        if self._backend.fileno() < 0:
            self._backend.take()
        self._idle = self._idle_seconds()
        if self._idle < QUIET_SECONDS:
            self._armed = False
        elif not self._armed:
            # Ask again after arming: input may have come just before.
            self._backend.arm()
            self._idle = self._idle_seconds()
            self._armed = self._idle >= QUIET_SECONDS
        self._report_changes(asked=asked)

    def _report_changes(self, *, asked: bool) -> None:
        """Report what has changed.

        The last input may also have been earlier than reported before: some backends know the idle
        time only when it is long enough.
        """
        last_input = self._clock() - self._idle
        moved = abs(last_input - self._last_input) > _SAME_INPUT_SECONDS
        # Our own lock says nothing while another user sits in front of it.
        locked = not self._in_use() and any(source.locked for source in self.all_sources)
        flags = locked, any(source.fullscreen for source in self.all_sources)
        if not (moved or asked or flags != self._flags):
            return
        self._flags = flags
        if moved:
            self._last_input = last_input
        self._report(Line("readable", self._backend.method, round(self._idle, 3), *flags))

    def _idle_seconds(self) -> float:
        """Ask the backend; another user at the PC counts as input all the time."""
        return 0.0 if self._in_use() else self._backend.idle_seconds()

    def _in_use(self) -> bool:
        return any(source.in_use for source in self._sources)

    def close(self) -> None:
        """Close every source."""
        with ExitStack() as stack:
            for source in self.all_sources:
                stack.enter_context(closing(source))
