"""Holds the loop to the user's network: what may be exchanged now, and what that costs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_agent.core.agent_state import AssignmentState
from pleb_agent.core.network_rules import NetworkDecision, network
from pleb_agent.core.sentence import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pleb_agent.core.readings import Readings
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.journal.rows import AssignmentRow
    from pleb_agent.loop.ports import CurrentPreferences

__all__ = ["NetworkGate", "lease_warning"]

_LEAST_WAIT_SECONDS: Final = 1.0
_MOST_WAIT_SECONDS: Final = 60.0
_SOON_SECONDS: Final = 600.0
"""How long before its end a lease is told to run out, where nobody knows when exchange goes on."""


class NetworkGate:
    """`decision` is the last one."""

    def __init__(self, read: Callable[[], Readings], preferences: CurrentPreferences) -> None:
        self._read = read
        self._preferences = preferences
        self._changed = asyncio.Event()
        self.decision = NetworkDecision(
            allowed=True,
            sentence=say("The agent is starting."),
            download_bytes_per_second=None,
            upload_bytes_per_second=None,
            look_again_seconds=0.0,
        )

    def look(self) -> NetworkDecision:
        """Decide anew."""
        self.decision = network(self._read(), self._preferences())
        return self.decision

    def look_again(self) -> None:
        """Something changed: decide anew at once."""
        self._changed.set()

    async def watch(
        self, on_closed: Callable[[], Awaitable[None]], on_opened: Callable[[], None]
    ) -> None:
        """Tell of each change, for ever."""
        was_allowed = True
        while True:
            self._changed.clear()
            decision = self.look()
            if was_allowed and not decision.allowed:
                await on_closed()
            elif decision.allowed and not was_allowed:
                on_opened()
            was_allowed = decision.allowed
            wait = min(max(decision.look_again_seconds, _LEAST_WAIT_SECONDS), _MOST_WAIT_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()


def lease_warning(
    decision: NetworkDecision, rows: Iterable[AssignmentRow], now: float
) -> tuple[int, Sentence] | None:
    """Return the row, and what to tell, of a unit that will be late because nothing is sent."""
    horizon = now + max(decision.look_again_seconds, _SOON_SECONDS)
    for row in rows:
        if row.state in {AssignmentState.REPORTED, AssignmentState.FAILED}:
            continue
        if now < row.lease_ends_at < horizon:
            sentence = say(
                "Unit {unit} must be sent within {minutes} min, or it is late: {why}",
                unit=row.assignment,
                minutes=max(1, round((row.lease_ends_at - now) / 60)),
                why=str(decision.sentence),
            )
            return row.id, sentence
    return None
