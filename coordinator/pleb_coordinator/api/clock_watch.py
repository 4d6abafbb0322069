"""Whether this coordinator's own clock is wrong: most networks' requests say so."""

from __future__ import annotations

import statistics
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from pleb_coordinator.api.addresses import subscriber
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ClockWatch"]

_MOST_OWNERS: Final = 1000
_LOOK_SECONDS: Final = 600.0
_LEAST_OWNERS: Final = 2
"""One network whose clock is wrong is that network's."""
_SAY_SECONDS: Final = 60.0


class ClockWatch:
    """Compares the times in requests, one for each network, with the coordinator's.

    A request may lie about its time, and a network counts once, so whoever makes the clock look
    wrong needs more networks than all honest hosts have; and all that he gets is a sentence.
    """

    def __init__(self, say: Callable[[float, float], None]) -> None:
        self._say = say
        self._ahead: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._said = (0.0, 0.0)

    def note(self, address: str, issued_at: float, now: float) -> None:
        """Note the time of a request; say how far the clock is ahead when that is new."""
        owner = subscriber(address)
        if not owner:  # this machine has the same clock
            return
        self._ahead.pop(owner, None)
        self._ahead[owner] = now, now - issued_at
        if len(self._ahead) > _MOST_OWNERS:
            self._ahead.popitem(last=False)
        at, before = self._said
        if abs(now - at) >= _SAY_SECONDS and ((ahead := self._found(now)) or before):
            self._said = now, ahead
            self._say(ahead, now)

    def _found(self, now: float) -> float:
        """Return how far the clock is ahead of most networks' clocks; 0: it is right."""
        recent = [ahead for at, ahead in self._ahead.values() if 0 <= now - at < _LOOK_SECONDS]
        wrong = [ahead for ahead in recent if abs(ahead) > LIMITS.clock_tolerance_seconds]
        if len(wrong) < _LEAST_OWNERS or 2 * len(wrong) <= len(recent):
            return 0.0
        return statistics.median(wrong)
