"""The rule of memory: what others need, and what the worker may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_agent.core.decision import USUAL_LOOK_SECONDS, Action, Objection, Reason
from pleb_agent.core.sentence import say
from pleb_agent.core.sizes import format_bytes

if TYPE_CHECKING:
    from pleb_agent.core.moment import Moment
    from pleb_agent.core.sentence import Sentence

__all__ = ["memory_short"]

LEAST_AVAILABLE_BYTES: Final = 256 * 2**20
LEAST_AVAILABLE_SHARE: Final = 0.05
"""Of all memory: whichever of the two is more stays free for others."""


def memory_short(moment: Moment) -> Objection | None:
    """Other programs need the memory, or the worker takes more than it may."""
    return _little_available(moment) or _worker_too_large(moment)


def _little_available(moment: Moment) -> Objection | None:
    """After a stop there must be room for the worker too, or it would be stopped again."""
    available, total = moment.readings.memory_available_bytes, moment.readings.memory_total_bytes
    if available is None:
        return None
    needed = max(LEAST_AVAILABLE_BYTES, int((total or 0) * LEAST_AVAILABLE_SHARE))
    if Reason.MEMORY_SHORT in moment.memory.objected:
        needed += max(0, moment.memory.short_bytes - moment.readings.worker_memory_bytes)
    if available >= needed:
        return None
    sentence = say(
        "Other programs need the memory; work goes on when {needed} are free ({available} are).",
        needed=format_bytes(needed),
        available=format_bytes(available),
    )
    return Objection(Reason.MEMORY_SHORT, sentence, action=Action.STOP, comes_and_goes=True)


def _worker_too_large(moment: Moment) -> Objection | None:
    """A worker that was stopped for its size would grow to it again: wait for a while."""
    ceiling, size = moment.memory_ceiling_bytes, moment.readings.worker_memory_bytes
    left = moment.memory.outgrown_until - moment.now
    if left > 0:
        size = max(size, moment.memory.outgrown_bytes)
    if ceiling is None or size <= ceiling:
        return None
    sentence = _too_large(moment, format_bytes(size), format_bytes(ceiling))
    waits = (USUAL_LOOK_SECONDS, left, moment.idle_left_seconds)
    look = min(seconds for seconds in waits if seconds > 0)
    return Objection(Reason.MEMORY_SHORT, sentence, look, Action.STOP)


def _too_large(moment: Moment, size: str, ceiling: str) -> Sentence:
    if moment.beside_user:
        return say(
            "The unit takes {size} of memory, and {ceiling} are allowed while you use the PC; "
            "it goes on when you don't.",
            size=size,
            ceiling=ceiling,
        )
    return say(
        "The unit takes {size} of memory, and {ceiling} are allowed; "
        "allow more (`memory_bytes_idle`) to go on at once.",
        size=size,
        ceiling=ceiling,
    )
