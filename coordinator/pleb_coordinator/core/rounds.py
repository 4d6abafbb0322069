"""When a round is over, and when to check again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Round

__all__ = ["due_at", "ready"]


def ready(row: Round, grace_seconds: float, now: float, in_hand: int | None = None) -> bool:
    """Whether the next version can be made: the round has its quorum and need not wait for more.

    It waits until no unit is open or the grace window is over. Where the last units are shortened
    to end with the round, it waits only while units are `in_hand` of hosts or to be confirmed. If
    `quorum_at` is in the future, the clock was set back: the window counts as over, since waiting
    could take hours.
    """
    if row.closed_at is not None or not row.has_quorum:
        return False
    waited = now - (now if row.quorum_at is None else row.quorum_at)
    return row.open == 0 or in_hand == 0 or not 0 <= waited < grace_seconds


def due_at(row: Round, grace_seconds: float) -> float | None:
    """Return when the grace window ends; None: it has not begun."""
    if row.closed_at is not None or row.quorum_at is None or not row.has_quorum:
        return None
    return row.quorum_at + grace_seconds
