"""The volunteer's warning when a project's permission ends soon; there is nothing to do for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_agent.core.sentence import say
from pleb_shared.protocol.permission import ends_soon
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    from pleb_agent.core.sentence import Sentence

__all__ = ["permission_notice"]


def permission_notice(ends_at: float, now: float) -> Sentence | None:
    """Return the sentence; None while there is time."""
    if not ends_soon(ends_at, now):
        return None
    day = shown_day(ends_at)
    if ends_at <= now:
        return say(
            "The project's permission ended on {day}; its researcher has to renew it. The agent "
            "goes on by itself then. If your clock is wrong, set it.",
            day=day,
        )
    return say("The project's permission ends on {day}; its researcher has to renew it.", day=day)
